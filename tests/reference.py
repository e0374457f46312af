"""Reference outputs of the official implementation, where the folder with them is at hand."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import torch
    from numpy.typing import NDArray

SHARED = Path(os.environ.get("RAMQ_SHARED_DIR", Path(__file__).resolve().parents[1] / ".." / "shared"))


@dataclass(frozen=True)
class Reference:
    """What the official code made of deterministic weights.

    Attributes:
        weights: official-layout state dict.
        arrays: images, logits and what lies between.
        facts: the rest: tag strings, captions.
        pixels: (N, 3, 384, 384) float32, preprocessed as the official code does.
    """

    weights: dict[str, torch.Tensor]
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    pixels: torch.Tensor


def reference(kind: str) -> Reference:
    """Return the tiny golden case of ``ram``, ``ram_plus`` or ``tag2text``, or skip the test."""
    folder = SHARED / "parity"
    if not folder.is_dir():
        pytest.skip(f"no reference data in {SHARED}; RAMQ_SHARED_DIR says where it is")
    recipe, images = _module(folder / "weights.py"), _module(folder / "images.py")
    manifest = json.loads((folder / f"manifest_{kind}_tiny.json").read_text())
    with np.load(folder / f"{kind}_tiny.npz") as stored:
        arrays = dict(stored)
    facts = json.loads((folder / f"{kind}_tiny.json").read_text())
    return Reference(recipe.from_manifest(manifest), arrays, facts, images.to_tensor(arrays["images"]))


def synthetic_pixels(seeds: Sequence[int]) -> torch.Tensor:
    """Return (N, 3, 384, 384) float32: the official preprocessing of synthetic images."""
    images = _module(SHARED / "parity" / "images.py")
    pixels: torch.Tensor = images.to_tensor(np.stack([images.synth(each) for each in seeds]))
    return pixels


def official_file(name: str) -> Path:
    """Return one of the published data files, or skip the test."""
    path = SHARED / "ram" / name
    if not path.is_file():
        pytest.skip(f"no {name} in {SHARED / 'ram'}; RAMQ_SHARED_DIR says where it is")
    return path


def official_vocabulary(count: int) -> TagVocabulary:
    """Return the first tags of RAM's official lists."""
    whole = TagVocabulary.from_files(
        official_file("ram_tag_list.txt"),
        official_file("ram_tag_list_chinese.txt"),
        official_file("ram_tag_list_threshold.txt"),
    )
    return TagVocabulary("ram", whole.names[:count], whole.names_zh[:count], whole.thresholds[:count])


def bits(packed: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Unpack (N, ceil(count / 8)) bytes to (N, count) truth values."""
    return np.unpackbits(packed, axis=1)[:, :count].astype(bool)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
