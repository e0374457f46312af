"""The models of stages: which ones a stage may have, and whether their weights are anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.results.spaces import SPACES
from workers.messages import ENCODERS, RECOGNISERS, STAGE_MODELS, TOWER_TYPES, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from storage.ledger.worker_views import WorkerView

_FOLDER = re.compile(r"[\w-][\w.-]*")
"""Names of folders of checkpoints."""

_TRAINED = re.compile(r"(ram|ram_plus|tag2text)@[a-z0-9][a-z0-9._-]{0,62}")
"""Names of trained models."""


def require(stage: str, model: str, models_dir: Path) -> None:
    """Raise ``UsageError`` unless a stage may have this model.

    A space also takes towers that are in no catalogue, by the name of their folder. If it is here, the tower in it must
    be of the space's kind.
    """
    known = STAGE_MODELS[stage]
    is_folder = stage in SPACES and model not in ENCODERS and _FOLDER.fullmatch(model) is not None
    if not _is_one_of(known, model) and not is_folder:
        more = ", or a folder with such a tower" if stage in SPACES else ""
        raise UsageError(f"unknown model {model!r} of {stage}; choose one of {', '.join(known)}{more}")
    if not is_folder:
        return
    from ram_core.spaces.files import tower_type  # noqa: PLC0415  (few calls need it)

    types = TOWER_TYPES.get(stage) or tuple(each for types in TOWER_TYPES.values() for each in types)
    found = tower_type(model, models_dir)
    if found is not None and found not in types:
        raise UsageError(
            f"{models_dir / model} has a model of type {found!r}, which makes no vectors of the space {stage}; "
            f"use one of type {' or '.join(types)}"
        )


def _is_one_of(known: Sequence[str], model: str) -> bool:
    """Return whether a model is one of these, or was trained from one of them."""
    return model in known or (_TRAINED.fullmatch(model) is not None and kind_of(model) in known)


def weights_here(stage: str, model: str, models_dir: Path) -> str | None:
    """Return the hash of the weights with which a tower would work here; None: it is not known."""
    if stage not in SPACES or kind_of(model) in RECOGNISERS:
        return None
    from ram_core.spaces.files import weights_sha256  # noqa: PLC0415  (few calls need it)

    return weights_sha256(model, models_dir)


def require_known(stage: str, model: str, models_dir: Path, workers: Sequence[WorkerView]) -> None:
    """Raise ``UsageError`` if a name is of no catalogue, and neither here nor on a live worker: most are misspelt."""
    if stage not in SPACES or _is_one_of(STAGE_MODELS[stage], model) or _is_one_of(ENCODERS, model):
        return
    if told := lacking(stage, model, models_dir, workers):
        known = ", ".join(STAGE_MODELS[stage])
        raise UsageError(
            f"{told.removesuffix(' Jobs wait until then.')} Models of {stage} that can be pulled: {known}."
        )


def lacking(stage: str, model: str, models_dir: Path, workers: Sequence[WorkerView]) -> str | None:
    """Return what to do about weights that are neither here nor on a live worker that does the stage.

    None: they are, or the model needs none.
    """
    from ram_core.checkpoints import catalogue, installed  # noqa: PLC0415  (few calls need it)

    pulled = {entry.name for entry in catalogue() if entry.files}
    own = {model} if model not in STAGE_MODELS[stage] else set()
    there = set(installed(models_dir)).union(*(w.weights for w in workers if w.is_alive and stage in w.runs))
    missing = [part for part in model.split("+") if part in pulled | own and part not in there]
    if not missing:
        return None
    verb = "are" if len(missing) > 1 else "is"
    pulls = " and ".join(f"`ramq models pull {part}`" for part in missing if part in pulled)
    remedy = f"run {pulls}" if pulls else "put the folder into RAMQ_MODELS_DIR"
    return (
        f"{' and '.join(missing)} {verb} neither in {models_dir} nor on a live worker: {remedy} where the workers run. "
        "Jobs wait until then."
    )


def lacking_recogniser(model: str, models_dir: Path, workers: Sequence[WorkerView]) -> str | None:
    """Return what to do about weights of recognition that are neither here nor on a live worker; None: they are."""
    from ram_core.checkpoints import catalogue, installed  # noqa: PLC0415  (few calls need it)

    pulled = {entry.name for entry in catalogue() if entry.files}
    there = set(installed(models_dir)).union(*(w.weights for w in workers if w.is_alive))
    is_trained = _TRAINED.fullmatch(model) is not None
    if model in there or not (is_trained or model in pulled):
        return None
    remedy = "put the folder into RAMQ_MODELS_DIR" if is_trained else f"run `ramq models pull {model}`"
    return f"{model} is neither in {models_dir} nor on a live worker: {remedy} where the workers run."
