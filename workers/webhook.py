"""Reports ended jobs to the address that the operator set. Delivery is at least once.

Headers and signature follow Standard Webhooks 1.0 (standardwebhooks.com), for which receivers have libraries.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import urllib3

from storage.database import unit_of_work
from storage.ledger import jobs, webhook_deliveries

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.ledger.views import JobView
    from storage.ledger.webhook_deliveries import WebhookDelivery

log = structlog.get_logger()

TIMEOUT_SECONDS = 10.0
SECRET_PREFIX = "whsec_"  # noqa: S105  (a prefix, not a secret)


class Webhook:
    """The address of the webhook and its shared secret. Thread-safe.

    Args:
        url: address to post to. It and the response bodies may hold secrets, so neither is logged.
        secret: ``whsec_`` and the key in base64.
        user_agent: how requests introduce themselves.
    """

    def __init__(self, url: str, secret: str, user_agent: str) -> None:
        self._url = url
        self._user_agent = user_agent
        self._key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=TIMEOUT_SECONDS))
        self.host = urlsplit(url).hostname

    def deliver(self, engine: Engine) -> bool:
        """Send the delivery that has been due for longest. Return False if none is due."""
        with unit_of_work(engine) as session:
            delivery = webhook_deliveries.claim(session)
            if delivery is None:
                return False
            job = jobs.view(session, delivery.job_id)
        error = self._post(delivery, job)
        with unit_of_work(engine) as session:
            webhook_deliveries.settle(session, delivery, error)
        if error is None:
            log.info("webhook told", job=job.id, host=self.host)
        else:
            log.warning("webhook not told", job=job.id, host=self.host, error=error, tries=delivery.tries)
        return True

    def _post(self, delivery: WebhookDelivery, job: JobView) -> str | None:
        """Post one delivery. Return the error as words that follow "it"; None: success."""
        body = _body(delivery, job)
        # The same id for every try: receivers use it to detect duplicates.
        name = f"job-{job.id}-{delivery.ended_at.timestamp():.6f}"
        moment = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": self._user_agent,
            "webhook-id": name,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{self._signature(name, moment, body)}",
        }
        try:
            # A redirect would send the delivery to an address that the operator did not set.
            answer = self._http.request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False
            )
            answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return f"did not answer ({type(error).__name__})"
        return None if 200 <= answer.status < 300 else f"answered {answer.status}"

    def _signature(self, name: str, moment: str, body: bytes) -> str:
        signed = hmac.digest(self._key, f"{name}.{moment}.".encode() + body, hashlib.sha256)
        return base64.b64encode(signed).decode()


def _body(delivery: WebhookDelivery, job: JobView) -> bytes:
    names = (
        "id", "source", "archive", "model", "generation_id", "state", "note", "listed", "done", "skipped", "failed",
        "pending", "ignored", "ignored_by_reason", "failures_by_class",
    )  # fmt: skip
    times = ("created_at", "started_at", "finished_at")
    data = {name: getattr(job, name) for name in names}
    data |= {name: moment.isoformat() if (moment := getattr(job, name)) else None for name in times}
    return json.dumps({"type": "job.ended", "timestamp": delivery.ended_at.isoformat(), "data": data}).encode()
