"""Work that a worker leaves to others, and what a job waits for if no worker can do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from storage.ledger.views import JobView
    from storage.ledger.worker_views import Unfitness, WorkerView


class Barred(NamedTuple):
    """What a worker does not claim now: everything, or jobs with these models, captioners or archive URIs."""

    everything: bool = False
    models: Sequence[str] = ()
    archives: Sequence[str] = ()


NOTHING_BARRED = Barred()


@dataclass(frozen=True, slots=True)
class Able:
    """What a worker can do now.

    Attributes:
        models: the models of recognition that it runs; None: any.
        stages: the stages that it does.
        other_generations: generations whose jobs it leaves to others: its own model of that name is another one.
        barred: work that it leaves to others for a while.
    """

    models: Sequence[str] | None = None
    stages: Sequence[str] = (RECOGNITION,)
    other_generations: Collection[int] = ()
    barred: Barred = NOTHING_BARRED

    def values(self) -> dict[str, object]:
        """Return the parameters of a statement."""
        return {
            "models": None if self.models is None else list(self.models),
            "stages": list(self.stages),
            "recognises": RECOGNITION in self.stages,
            "other_generations": list(self.other_generations),
            "barred_models": list(self.barred.models),
            "barred_archives": list(self.barred.archives),
        }


def is_for(job: JobView, unfit: Unfitness) -> bool:
    """Return whether a worker's unfitness keeps it from a job."""
    if unfit.kind == "everything":
        return True
    if unfit.kind == "model":
        return unfit.name in {job.model, job.captioner}
    return unfit.kind == "archive" and unfit.name == job.archive and job.from_generation_id is None


def waits_for(job: JobView, workers: Sequence[WorkerView]) -> str | None:
    """Return which kind of worker a running job waits for. None if a live worker can do it, or if none is alive."""
    alive = [worker for worker in workers if worker.is_alive]
    if job.state != "running" or not alive:
        return None
    doing = [worker for worker in alive if job.stage in worker.runs]
    if not doing:
        # Only the stage text needs packages of its own.
        install = ' (`pip install "ramq[text]"` where it runs)' if job.stage == "text" else " (RAMQ_STAGES says which)"
        return f"waiting for a worker that does the stage {job.stage}: none of those alive does{install}"
    is_pinned = job.stage == RECOGNITION
    running = [worker for worker in doing if not is_pinned or worker.models is None or job.model in worker.models]
    if not running:
        others = ", ".join(sorted({name for worker in alive for name in worker.models or []}))
        return f"waiting for a worker that runs {job.model}: those alive run only {others}"
    reasons = []
    for worker in running:
        against = [unfit for unfit in worker.unfit if is_for(job, unfit)]
        if not against:
            return None
        reasons.append((worker, against[0]))
    worker, unfit = reasons[0]
    able = f"read {job.archive}" if unfit.kind == "archive" else f"run {job.model}"
    if unfit.kind == "model" and unfit.name != job.model:
        able = f"write captions with {unfit.name}"
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"waiting for a worker that can {able}. On {worker.host}, process {worker.pid}{more}: {unfit.reason}"
