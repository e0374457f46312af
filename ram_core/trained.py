"""Checkpoints that were trained here: ``<models_dir>/<model>@<name>/``, for example ``ram_plus@birds``.

``ramq train`` writes such a folder, and ``add`` copies it. Needs no torch.

* ``model.pth``: the weights, in the official layout.
* ``tags.json``: the vocabulary, exactly as it was: the same hash, and so comparable with the parent's results.
* ``model.json``: the card: what was trained, from which weights, on which data, with what result.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import CheckpointError, UnknownModelError, VocabularyError
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS, TAGS, CARD = "model.pth", "tags.json", "model.json"
SEPARATOR = "@"
KINDS = ("ram", "ram_plus", "tag2text")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained checkpoint.

    Attributes:
        name: the name under which it is loaded, for example ``ram_plus@birds``.
        folder: its files.
        card: what ``model.json`` says.
    """

    name: str
    folder: Path
    card: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The model that was trained: ``ram``, ``ram_plus`` or ``tag2text``."""
        return self.name.partition(SEPARATOR)[0]

    @property
    def checkpoint(self) -> Path:
        """The file with the weights."""
        return self.folder / WEIGHTS

    @property
    def summary(self) -> str:
        """One line for people."""
        card = self.card
        score = card.get("validation_map")
        parts = (
            f"trained by {card.get('recipe')} from {card.get('parent', {}).get('name')}",
            f"{card.get('data', {}).get('images', 0):,} images",
            f"{card.get('epochs')} epochs",
            "" if score is None else f"validation mAP {score:.3f}",
            str(card.get("finished_at", ""))[:10],
        )
        return ", ".join(part for part in parts if part)

    def vocabulary(self) -> TagVocabulary:
        """Return its tags. Raises ``VocabularyError``."""
        return read_tags(self.folder / TAGS)

    def verify(self) -> str | None:
        """Read the weights; return what is wrong with them, or None."""
        try:
            with self.checkpoint.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"{self.checkpoint} cannot be read: {error.strerror}"
        if digest != self.card.get("sha256"):
            return f"{self.checkpoint} has sha256 {digest}, but its card says {self.card.get('sha256')}; add it again"
        return None


def trained(models_dir: Path | str) -> list[Trained]:
    """Return the trained checkpoints in a folder of models, by name. Damaged ones are left out."""
    found = []
    folders = sorted(each for each in Path(models_dir).glob(f"*{SEPARATOR}*") if each.is_dir())
    for folder in folders:
        try:
            found.append(find_trained(folder.name, models_dir))
        except (CheckpointError, UnknownModelError):
            continue
    return found


def find_trained(name: str, models_dir: Path | str | None) -> Trained:
    """Return a trained checkpoint by the name under which it is loaded.

    Raises:
        UnknownModelError: it is not a name of one.
        CheckpointError: it is not in the folder, or its card is damaged.
    """
    kind, _, own = name.partition(SEPARATOR)
    if kind not in KINDS or not _NAME.fullmatch(own):
        raise UnknownModelError(
            f"{name!r} names no trained model; such a name is one of {', '.join(KINDS)}, an @, and small letters or "
            "digits, for example ram_plus@birds"
        )
    folder = None if models_dir is None else Path(models_dir) / name
    if folder is None or not (folder / CARD).is_file():
        where = "no folder of models is set" if folder is None else f"it is not in {models_dir}"
        raise CheckpointError(f"{name} is not here ({where}); run `ramq models add {own} --from FOLDER`")
    card = read_card(folder)
    if card["model"] != kind:
        raise CheckpointError(f"{folder} has a {card['model']}; name it {card['model']}{SEPARATOR}{own}")
    return Trained(name, folder, card)


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a trained checkpoint's folder. Raises ``CheckpointError``."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {CARD}: the training has not ended, or this is no training") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); train or add it again") from error
    if not _is_card(card):
        raise CheckpointError(f"{path} is no card of a trained model; train or add it again")
    return dict(card)


def _is_card(card: Any) -> bool:
    """Return whether what a file says can be shown."""
    if not isinstance(card, dict) or card.get("model") not in KINDS:
        return False
    parent, data, score = card.get("parent", {}), card.get("data", {}), card.get("validation_map")
    return (
        isinstance(parent, dict)
        and isinstance(data, dict)
        and isinstance(data.get("images", 0), int)
        and isinstance(score, (int, float, type(None)))
    )


def add(name: str, source: Path | str, models_dir: Path | str) -> Trained:
    """Copy a trained checkpoint into the folder of models, complete or not at all.

    Args:
        name: its own name, for example ``birds``, or already ``ram_plus@birds``.
        source: the folder that ``ramq train`` wrote.
        models_dir: the folder of models.

    Raises:
        UnknownModelError: the name cannot be one.
        CheckpointError: the source is not complete, a checkpoint of this name is there, or it cannot be copied.
    """
    source = Path(source)
    card = read_card(source)
    kind, _, own = name.rpartition(SEPARATOR)
    if kind not in {"", card["model"]}:
        raise UnknownModelError(f"{source} is a {card['model']}, not a {kind}; name it {card['model']}@{own}")
    whole = f"{card['model']}{SEPARATOR}{own}"
    if not _NAME.fullmatch(own):
        raise UnknownModelError(
            f"{own!r} cannot be a name; use at most 63 small letters, digits, and . _ - between them"
        )
    if lacking := [each for each in (WEIGHTS, TAGS) if not (source / each).is_file()]:
        raise CheckpointError(f"{source} has no {lacking[0]}; the training has not ended")
    target = Path(models_dir) / whole
    if target.exists():
        raise CheckpointError(f"{target} is there already; give another name, or delete that folder")
    if fault := Trained(whole, source, card).verify():
        raise CheckpointError(fault)
    partial = target.with_name(f".{whole}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for each in (WEIGHTS, TAGS, CARD):
            shutil.copy2(source / each, partial / each)
        partial.rename(target)
    except OSError as error:
        raise CheckpointError(f"cannot copy {source} to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Trained(whole, target, card)


def write_tags(vocabulary: TagVocabulary, path: Path) -> None:
    """Write a vocabulary so that ``read_tags`` returns the same one."""
    content = {
        "name": vocabulary.name,
        "names": vocabulary.names,
        "names_zh": vocabulary.names_zh,
        "thresholds": [float(each) for each in vocabulary.thresholds],
        "descriptions": vocabulary.descriptions,
        "synonyms": vocabulary.synonyms,
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)


def read_tags(path: Path) -> TagVocabulary:
    """Return a vocabulary that ``write_tags`` wrote. Raises ``VocabularyError``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        descriptions, synonyms = (
            None if content[field] is None else tuple(tuple(each) for each in content[field])
            for field in ("descriptions", "synonyms")
        )
        thresholds = np.array(content["thresholds"], dtype=np.float32)
        names, names_zh = tuple(content["names"]), tuple(content["names_zh"])
        return TagVocabulary(content["name"], names, names_zh, thresholds, descriptions, synonyms)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VocabularyError(f"{path} cannot be read ({error}); train or add the model again") from error
