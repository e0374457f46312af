"""The only Celery task: it calls the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from celery import signals
from celery.worker import state

from storage.errors import FatalError, RamqError
from workers.messages import WAKE

if TYPE_CHECKING:
    from celery import Celery

    from workers.lifecycle import Worker

log = structlog.get_logger()

_EXIT_FAILED = 1


def register(app: Celery, worker: Worker) -> None:
    """Register the task with the application, and connect Celery's shutdown to the worker."""

    @app.task(name=WAKE, acks_late=True)
    def wake(_model: str) -> None:
        work_now()

    def work_now() -> None:
        try:
            worker.work()
        except FatalError as error:
            log.error("worker stops", error=str(error))  # noqa: TRY400  (the message is the point, not the trace)
            state.should_stop = _EXIT_FAILED  # type: ignore[assignment]  # typed as None, documented as a number
        except RamqError as error:
            # The ledger still has the work and another wake-up will come, so continuing loses nothing.
            log.warning("the work ended early", error=str(error))

    worker.work_now = work_now

    def on_shutting_down(**_: Any) -> None:
        if not worker.is_stopping:
            log.info("stopping: the batch in hand is finished, the rest is given back")
        worker.stop()

    signals.worker_shutting_down.connect(on_shutting_down, weak=False)
