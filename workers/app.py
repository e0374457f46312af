"""The Celery application: each option with its reason.

Celery carries wake-ups, not work: the ledger in PostgreSQL knows what to do. So nothing here guards against a lost or a
doubled message; it is enough that a live worker receives one now and then.
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
# Options of Linux; elsewhere the system's own times hold.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


def make_app(broker_url: str, models: tuple[str, ...] | None = None) -> Celery:
    """Return the application for a worker of ``models`` (None: any), or for a sender of wake-ups."""
    app = Celery("ramq", broker=broker_url, set_as_current=False)
    app.conf.update(
        # The ledger holds results and runs work again; a result backend would be a second truth.
        task_ignore_result=True,
        result_backend=None,
        # Wake-ups only. Anything but JSON from the broker could run code.
        accept_content=["json"],
        task_serializer="json",
        # CUDA does not survive a fork, and `solo` answers no ping while it works: one thread, one time slice at a time.
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        # If a worker dies, its wake-up goes to another; the lease in the ledger decides what happens then.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        # Heartbeats are rows in Postgres; Celery's own traffic grew without bound in other people's Redis.
        worker_send_task_events=False,
        task_send_sent_event=False,
        # True strands the running task's message until the visibility timeout.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A broker that is away comes back: wait for it for ever.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_queues=[Queue(name) for name in queues_of(models)],
        task_default_queue=queues_of(models)[0],
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # Longer than any time slice, or a long one would be received twice.
            "visibility_timeout": 3600,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            # Or an idle worker on a connection that is dead at the other end would hear nothing for two hours.
            "socket_keepalive_options": _KEEPALIVE,
            "health_check_interval": 5,
        },
    )
    return app


class WakeUps:
    """Sends wake-ups, and counts those that wait, so that their number stays small however much work there is."""

    def __init__(self, app: Celery, broker: redis.Redis) -> None:
        self._app = app
        self._broker = broker

    def send(self, model: str, wanted: int) -> None:
        """Make ``wanted`` wake-ups for ``model`` wait in the queue. Raises ``redis.RedisError``."""
        queue = queue_of(model)
        sending = f"{KEY_PREFIX}ringing:{queue}"
        # One at a time: several that count at once would each send all that are wanted.
        if not self._broker.set(sending, 1, nx=True, px=_SENDING_MS):
            return
        waiting: Any = self._broker.llen(f"{KEY_PREFIX}{queue}")
        for _ in range(wanted - int(waiting)):
            # Without a time to expire at: the clocks of sender and hearer may differ, and there are few of them anyway.
            self._app.send_task(WAKE, args=(model,), queue=queue, retry=False)
        self._broker.delete(sending)
