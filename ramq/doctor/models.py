"""Checks of the models' files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ram_core.spaces import RECOGNISERS, TOWERS
from ramq.findings import Finding
from storage.database import unit_of_work
from storage.results import generations
from storage.results.spaces import SPACES
from workers.messages import kind_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.tables import Generation


def model_files(settings: Settings) -> list[Finding]:
    """Read the files of the models that the settings name and compare their hashes."""
    from ram_core.checkpoints import FileState, find, verify  # noqa: PLC0415
    from ram_core.errors import ModelError  # noqa: PLC0415

    if settings.model == "lite" and settings.captioner != "tag2text":
        return [Finding("model files", "ok", "lite comes with ramq")]
    findings = []
    for name in dict.fromkeys([settings.model, *(["tag2text"] if settings.captioner == "tag2text" else [])]):
        if name == "lite":
            continue
        if "@" in name:
            findings.append(_trained(name, settings))
            continue
        damaged = [file for file in verify(name, settings.models_path) if file.state is FileState.DAMAGED]
        if damaged:
            detail = "; ".join(f"{file.path}: {file.detail}" for file in damaged)
            findings.append(Finding("model files", "fault", detail, f"ramq models verify {name}"))
            continue
        try:
            files = find(name, settings.models_path)
        except ModelError as error:
            findings.append(Finding("model files", "fault", str(error), f"ramq models pull {name}"))
        else:
            findings.append(Finding("model files", "ok", f"{name}: {len(files)} files in {settings.models_path}"))
    return findings


def _trained(name: str, settings: Settings) -> Finding:
    from ram_core.errors import ModelError  # noqa: PLC0415
    from ram_core.trained import find_trained  # noqa: PLC0415

    try:
        found = find_trained(name, settings.models_path)
    except ModelError as error:
        return Finding("model files", "fault", str(error), "ramq models list")
    if fault := found.verify():
        return Finding("model files", "fault", fault, f"ramq models verify {name}")
    return Finding("model files", "ok", f"{name}: {found.summary}")


def towers(settings: Settings, engine: Engine) -> list[Finding]:
    """Compare the weights here with those that made the vectors of spaces in use: searches need the same ones."""
    with unit_of_work(engine) as session:
        found = [generations.default(session, space) for space in SPACES]
    return [_tower(settings, each) for each in found if each is not None and kind_of(each.model) not in RECOGNISERS]


def _tower(settings: Settings, generation: Generation) -> Finding:
    weights = settings.models_path / generation.model / "model.safetensors"
    what = f"{generation.model}, which made the vectors of {generation.stage}"
    pull = f"ramq models pull {generation.model}" if generation.model in TOWERS else f"ls {settings.models_path}"
    try:
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        detail = f"{what}, cannot be read ({error.strerror}): this machine cannot compare with them"
        return Finding("model files", "fault", detail, pull)
    if digest != generation.weights_sha256:
        detail = f"{what}, has other weights here: this machine cannot compare with them"
        return Finding("model files", "fault", detail, "ramq stages")
    return Finding("model files", "ok", f"{what}, has the same weights here")
