"""Learning is real: from noise, a small network learns photographs and their names by heart."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from ram_core import TagVocabulary
from ram_core.modeling.architecture import BertSizes, SwinSizes
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.training import TrainingBatch, load_for_training, multi_hot
from ram_core.training.initial import initial_weights
from ram_core.training.recipes import CLIP_MEAN, CLIP_STD
from ram_core.training.validation import mean_average_precision
from ram_core.transforms import normalise
from tests.photographs import UNPACKED, photographs

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PHOTOGRAPHS, SIDE, DESCRIPTIONS, WIDTH = 64, 64, 2, 512
SWIN = SwinSizes(width=16, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=SIDE // 32)
HEAD = BertSizes(layers=2, hidden=48, heads=4, intermediate=96, memory=WIDTH)
MOST_STEPS, BATCH, RATE = 400, 32, 2e-3


def words(path: Path) -> list[str]:
    """Return what the name of a photograph says: ``germany/wormsCathedral.webp`` shows a cathedral."""
    return [*re.sub("([A-Z])", r" \1", path.stem).lower().split(), path.parent.name.lower()]


def vector(text: str) -> NDArray[np.float64]:
    """Return a made-up vector of a text: texts that share words are near each other."""
    seeds = (int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) for word in text.split())
    total = sum(np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds)
    unit: NDArray[np.float64] = total / np.linalg.norm(total)
    return unit


def vectors(texts: list[str]) -> torch.Tensor:
    return torch.tensor(np.stack([vector(each) for each in texts]), dtype=torch.float32)


@pytest.fixture(scope="module")
def lesson() -> tuple[TagVocabulary, TrainingBatch]:
    """64 photographs with the words of their names as tags and as caption."""
    named = [each for each in photographs(200) if UNPACKED in each.parents and re.fullmatch("[A-Za-z]{4,}", each.stem)]
    paths = named[:: len(named) // PHOTOGRAPHS][:PHOTOGRAPHS]
    assert len(paths) == PHOTOGRAPHS
    names = sorted({word for path in paths for word in words(path)})
    captions = [" ".join(words(path)) for path in paths]
    squashed = np.stack([np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE))) for path in paths])
    tags = multi_hot([[names.index(word) for word in words(path)] for path in paths], len(names))
    texts = vectors(captions)
    pixels = normalise(torch.from_numpy(squashed), CLIP_MEAN, CLIP_STD)
    return TagVocabulary.from_names("names", names), TrainingBatch(pixels, captions, tags, tags, 4 * texts, texts)


@pytest.mark.timeout(1200)  # it computes for half a minute, and machines may be busy
def test_photographs_are_learned_by_heart(lesson: tuple[TagVocabulary, TrainingBatch], tmp_path: Path) -> None:
    vocabulary, whole = lesson
    labels = vectors([text for name in vocabulary.names for text in (name, f"{name} photograph")])
    with torch.device("meta"):
        empty = RAMPlus(SWIN, HEAD, (len(labels), WIDTH), DESCRIPTIONS)
    torch.save({"model": initial_weights(empty, labels)}, tmp_path / "noise.pth")
    model = load_for_training(
        "ram_plus", checkpoint=tmp_path / "noise.pth", vocabulary=vocabulary, dropout=0.0, drop_path=0.0
    )
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], weight_decay=0.05)
    with torch.no_grad():
        before = float(model.losses(whole)["total"])
    draw = torch.Generator().manual_seed(0)
    step, after = 0, before
    while step < MOST_STEPS and after >= 0.04 * before:
        rows = torch.randperm(PHOTOGRAPHS, generator=draw)[:BATCH].tolist()
        part = TrainingBatch(
            whole.pixels[rows],
            [whole.captions[row] for row in rows],
            *(getattr(whole, name)[rows] for name in ("tags", "parse_tags", "clip_image", "caption_text")),
        )
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20)
        optimizer.zero_grad()
        model.losses(part)["total"].backward()
        optimizer.step()
        step += 1
        if step % 20 == 0:
            with torch.no_grad():
                after = float(model.losses(whole)["total"])
    assert after < 0.05 * before
    assert mean_average_precision(model, [whole]) > 0.9
