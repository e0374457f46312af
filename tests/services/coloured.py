"""Pictures of one colour, and a recogniser and a detector that know colours and cost nothing.

``tag 1`` is red, ``tag 2`` green, whatever else is in a picture. In grey there is nothing to see.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ram_core.localization.results import Localization, Region
from ram_core.recognition import Prediction
from tests.crop_archive import stages_worker
from tests.services.null_locator import NullLocator
from tests.services.null_worker import VECTOR_SIZE, NullModel
from workers.pipeline import model_holder
from workers.pipeline.model_options import ModelOptions
from workers.stages import STAGES
from workers.stages.crops import CropsStage
from workers.stages.locate import LocateStage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

    from ramq.wiring import Services
    from workers.lifecycle import Worker

RED, GREEN = 1, 2
COLOURS = {"red": (210, 30, 30), "green": (30, 200, 40), "purple": (200, 20, 180), "grey": (120, 120, 120)}
BOX = (0.1, 0.1, 0.9, 0.9)
_COLOURLESS = 40  # difference of channels


def write_coloured(folder: Path, counts: dict[str, int]) -> Path:
    """Write pictures: ``red-0.png`` and so on, each with some noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        for number in range(count):
            noise = rng.integers(-12, 13, (48, 48, 3))
            pixels = np.clip(np.array(COLOURS[name]) + noise + rng.integers(-6, 7, 3), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}-{number:02}.png")
    return folder


def _colour(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.reshape(-1, 3).mean(axis=0, dtype=np.float32)


class ColourModel(NullModel):
    """Sees whether a picture is more red or more green. Its vector is the colour."""

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: str | None = None
    ) -> list[Prediction]:
        found = []
        for image in pixels:
            colour = _colour(image)
            tags = [RED if colour[0] > colour[1] else GREEN] if np.ptp(colour) > _COLOURLESS else []
            vector = np.zeros(VECTOR_SIZE, np.float32)
            vector[:3], vector[3] = colour / 255, 0.2
            found.append(
                Prediction(
                    np.array(tags, np.int32), np.full(len(tags), 0.9, np.float32), vector / np.linalg.norm(vector)
                )
            )
        return found


class ColourLocator(NullLocator):
    """Finds every tag that it is asked for wherever there is colour. ``asked`` notes the tags.

    ``finds_only``: it finds only this one.
    """

    asked: set[str]
    finds_only: str | None = None

    def __init__(self) -> None:
        super().__init__("grounding-dino-tiny")
        self.asked = set()

    def locate(self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]]) -> list[Localization]:
        found = []
        for picture, own in zip(pictures, tags, strict=True):
            self.asked.update(own)
            seen = [tag for tag in own if np.ptp(_colour(picture)) > _COLOURLESS]
            if self.finds_only is not None:
                seen = [tag for tag in seen if tag == self.finds_only]
            found.append(Localization(tuple(Region(tag, 0.5, BOX) for tag in sorted(set(seen))), is_cut=False))
        return found


@contextmanager
def colour_worker(services: Services, monkeypatch: pytest.MonkeyPatch, locator: ColourLocator) -> Iterator[Worker]:
    """Give a worker that recognises, locates and crops colours."""
    monkeypatch.setattr(model_holder, "load_model", lambda _name, **_options: ColourModel())
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    crops = replace(STAGES["crops"], load=lambda _model, _options: CropsStage(ColourModel()))
    monkeypatch.setitem(STAGES, "crops", crops)
    locate = replace(STAGES["locate"], load=lambda _model, _options: LocateStage(locator))  # type: ignore[arg-type]
    monkeypatch.setitem(STAGES, "locate", locate)
    with stages_worker(services) as worker:
        yield worker
