"""Workers as people see them; see ``storage.ledger.views``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Unfitness:
    """Something that a worker cannot do at the moment, for reasons of its own.

    Attributes:
        kind: ``everything``, ``model`` or ``archive``; ``index`` if it recognises but cannot publish vectors.
        name: of the model or captioner, or the archive's URI; else empty.
        reason: one line that says what to do.
    """

    kind: str
    name: str
    reason: str

    @property
    def label(self) -> str:
        """What it cannot do, in a word or two."""
        return self.name or {"everything": "any work", "index": "publishing vectors"}.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process. It is alive if its heartbeat is recent.

    Attributes:
        models: the models of recognition that it runs; None: any.
        runs: the stages of jobs that it does.
        weights: the models whose weights it has; those that need none, or come with a package, are not among them.
        unfit: what it cannot do now, and why.
    """

    id: str
    host: str
    pid: int
    device: str
    model: str | None
    job_id: int | None
    images_per_second: float
    heartbeat_age_seconds: float
    is_alive: bool
    models: list[str] | None = None
    runs: list[str] = field(default_factory=lambda: ["recognition"])
    weights: list[str] = field(default_factory=list)
    unfit: list[Unfitness] = field(default_factory=list)
