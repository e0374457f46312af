"""What the files of an encoder say, without loading it: this needs no torch."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from ram_core.trained import SEPARATOR

_OWN = {"lite": 560, "ram": 1536, "ram_plus": 1536, "tag2text": 1024}
"""D of models that recognise: lite's last two groups of channels, and the width of Swin-L or Swin-B."""

_CATALOGUE = {"siglip2-base": 768, "clip-vit-base-patch32-laion2b": 512, "dinov2-base": 768}

# What transformers takes where config.json names no value.
_HIDDEN = {"dinov2": 768, "dinov3_vit": 384}
_SIGLIP_HIDDEN = 768
_CLIP_PROJECTION = 512


def tower_type(name: str, models_dir: Path | str) -> str | None:
    """Return the type of model (``model_type`` of config.json) in a folder of ``models_dir``. None: it is not told."""
    told = _config(name, models_dir).get("model_type")
    return told if isinstance(told, str) else None


def weights_sha256(name: str, models_dir: Path | str) -> str | None:
    """Return the hash of a tower's weights in a folder of ``models_dir``, as its vectors have it. None: none are there.

    A process reads an unchanged file once.
    """
    file = Path(models_dir) / name / "model.safetensors"
    try:
        told = file.stat()
        return _digest(file, told.st_mtime_ns, told.st_ctime_ns, told.st_size)
    except OSError:  # loading it says what is wrong
        return None


@lru_cache(maxsize=32)
def _digest(file: Path, *_changes_with: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def vector_size(name: str, models_dir: Path | str) -> int | None:
    """Return the length of an encoder's vectors: as its files say, if they are here. None if it is not known.

    Args:
        name: see ``load_image_encoder``.
        models_dir: folder of checkpoints.
    """
    recogniser = name.partition(SEPARATOR)[0]  # vectors of a trained model are as long as those of its parent
    if recogniser in _OWN:
        return _OWN[recogniser]
    told, kind = _config(name, models_dir), tower_type(name, models_dir)
    texts = told.get("text_config")
    found: Any = _CATALOGUE.get(name)
    if kind == "siglip":
        of_texts = texts if isinstance(texts, dict) else {}
        found = of_texts.get("projection_size") or of_texts.get("hidden_size") or _SIGLIP_HIDDEN
    elif kind == "clip":
        found = told.get("projection_dim") or _CLIP_PROJECTION
    elif kind in _HIDDEN:
        found = told.get("hidden_size") or _HIDDEN[kind]
    return found if isinstance(found, int) else None


def _config(name: str, models_dir: Path | str) -> dict[str, Any]:
    try:
        told = json.loads((Path(models_dir) / name / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading it says what is wrong
        return {}
    return told if isinstance(told, dict) else {}
