"""What the jobs on an archive may be asked for: by a person who enqueues it, and by a watch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ramq.services import stage_models
from storage.errors import UsageError
from storage.ledger.views import PRIORITIES
from storage.objects.ignoring import Selection
from storage.results import metadata
from storage.results.spaces import SPACES
from storage.tables import RECOGNITION
from workers.messages import ANY_MODEL, MODEL_NAME, STAGE_MODELS, features_kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from storage.ledger.views import Priority

STAGES = tuple(STAGE_MODELS)
"""Stages beside recognition."""

FOLLOWING = ("text", *SPACES)
"""Those that may be requested together with recognition: they need nothing of its results."""


@dataclass(frozen=True, slots=True)
class JobWishes:
    """The wishes, as people say them; see ``JobClient.create``."""

    model: str | None = None
    caption: bool | None = None
    priority: str = "normal"
    vocabulary: str | None = None
    stages: Sequence[str] = ()
    selection: Selection = field(default_factory=Selection)
    pages: bool = False


class Usual(Protocol):
    """What is done if nobody wishes anything else: see ``ClientOptions``."""

    @property
    def model(self) -> str: ...  # noqa: D102  (see there)
    @property
    def captioner(self) -> str: ...  # noqa: D102
    @property
    def features(self) -> str: ...  # noqa: D102
    @property
    def stage_models(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def models_dir(self) -> Path: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Settled:
    """The same, with the defaults of the settings, and checked.

    Attributes:
        model: of recognition.
        captioner: ``none``, ``template`` or ``tag2text``.
        features: what is kept of each image.
        stages: the models of the further stages.
    """

    model: str
    captioner: str
    features: str
    stages: dict[str, str]


def settle(wishes: JobWishes, usual: Usual) -> Settled:
    """Return what jobs with these wishes do. Raises ``UsageError`` if they cannot be fulfilled."""
    chosen = wishes.model or usual.model
    if not re.fullmatch(MODEL_NAME, chosen):
        raise UsageError(f"unknown model {chosen!r}; choose one of {', '.join(ANY_MODEL)}, or a trained one")
    priority_named(wishes.priority)
    further = [stage for stage in dict.fromkeys(wishes.stages) if stage != RECOGNITION]
    require_stages(further, FOLLOWING)
    for stage in further:
        stage_models.require(stage, usual.stage_models[stage], usual.models_dir)
    wishes.selection.check()
    captioner = _captioner(usual.captioner, caption=wishes.caption)
    if captioner == "tag2text" and chosen == "lite":
        raise UsageError(
            "the captioner tag2text works only with ram and ram_plus; set RAMQ_CAPTIONER=template for lite"
        )
    stages = {stage: usual.stage_models[stage] for stage in further}
    return Settled(chosen, captioner, features_of(chosen, usual.features), stages)


def _captioner(usual: str, *, caption: bool | None) -> str:
    if caption is None:
        return usual
    if not caption:
        return "none"
    return usual if usual != "none" else "template"


def features_of(model: str, wanted: str) -> str:
    """Return what a job of a model keeps. With ``auto``, images that were recognised before are not read again."""
    kept = features_kept(model, wanted)
    return "auto" if kept == "pooled" and wanted != "pooled" else kept


def require_stages(names: Sequence[str], known: Sequence[str] = STAGES) -> None:
    """Raise ``UsageError`` unless these are stages beside recognition, among the ``known`` ones."""
    for name in names:
        if name == metadata.STAGE and name not in known:
            raise UsageError("recognition itself reads what files say: leave the stage metadata out")
        if name in STAGES and name not in known:
            raise UsageError(f"the stage {name} needs what recognition finds: run `ramq {name}` afterwards")
        if name not in known:
            raise UsageError(f"unknown stage {name!r}; choose from {', '.join(known)}")


def priority_named(name: str) -> Priority:
    """Return a priority. Raises ``UsageError``."""
    for known in PRIORITIES:
        if known == name:
            return known
    raise UsageError(f"unknown priority {name!r}; choose one of {', '.join(PRIORITIES)}")
