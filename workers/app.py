"""The Celery application. Each option is commented with its reason.

Celery carries wake-ups, not work. The ledger in PostgreSQL holds the work. Therefore nothing here guards against lost
or duplicate messages: it is enough that a live worker receives a wake-up from time to time.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Queue

from workers.messages import WAKE, queue_of, queues_of

if TYPE_CHECKING:
    import redis

KEY_PREFIX = "ramq:"
_SENDING_MS = 2_000
# Linux only. Other systems use their own defaults.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


def make_app(broker_url: str, models: tuple[str, ...]) -> Celery:
    """Return the application for a worker of these models and further stages."""
    app = Celery("ramq", broker=broker_url, set_as_current=False)
    app.conf.update(
        # The ledger holds the results. A result backend would be a second source of truth.
        task_ignore_result=True,
        result_backend=None,
        # The broker carries only wake-ups. Any serializer other than JSON could run code from the broker.
        accept_content=["json"],
        task_serializer="json",
        # CUDA does not survive a fork, and `solo` answers no ping while it works. So: one thread, one time slice.
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        # If a worker dies, its wake-up goes to another one. The lease in the ledger decides what happens next.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        # Heartbeats are rows in PostgreSQL. Celery's own event traffic has been seen to grow without bound in Redis.
        worker_send_task_events=False,
        task_send_sent_event=False,
        # True would hold back the running task's message until the visibility timeout.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # The broker may be down for any length of time: keep reconnecting without a limit.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_queues=[Queue(name) for name in queues_of(models)],
        task_default_queue=queues_of(models)[0],
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # Longer than any time slice. Otherwise a long one would be delivered twice.
            "visibility_timeout": 3600,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            # Without these, an idle worker with a dead connection would receive nothing for two hours.
            "socket_keepalive_options": _KEEPALIVE,
            "health_check_interval": 5,
        },
    )
    return app


class WakeUps:
    """Sends wake-ups. Counts the waiting ones first, to keep the queue short however much work there is."""

    def __init__(self, app: Celery, broker: redis.Redis) -> None:
        self._app = app
        self._broker = broker

    def send(self, model: str, wanted: int) -> None:
        """Fill the queue of ``model`` up to ``wanted`` waiting wake-ups. Raises ``redis.RedisError``."""
        queue = queue_of(model)
        sending = f"{KEY_PREFIX}ringing:{queue}"
        # One sender at a time: several that count at once would each send the full number.
        if not self._broker.set(sending, 1, nx=True, px=_SENDING_MS):
            return
        waiting: Any = self._broker.llen(f"{KEY_PREFIX}{queue}")
        for _ in range(wanted - int(waiting)):
            # No expiry: the clocks of sender and receiver may differ, and only a few messages wait anyway.
            self._app.send_task(WAKE, args=(model,), queue=queue, retry=False)
        self._broker.delete(sending)
