"""What ``ramq train`` needs for a run of seconds: tiny weights, tags, CLIP, and pictures, some of them bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ram_core.modeling.tiny import write_tiny_checkpoint
from tests.tiny_clip import write_tiny_clip
from tests.training_data import NAMES, write_official_set

if TYPE_CHECKING:
    from pathlib import Path

BATCH, EPOCHS, STEPS = 4, 2, 5
SIZE = 32
MOST_BAD = ["--most-bad", "0.2"]


@dataclass(frozen=True, slots=True)
class SmallRun:
    """The files, and the words of the command."""

    home: Path

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def weights(self) -> Path:
        return self.home / "tiny.pth"

    def words(self, out: Path, *more: str) -> list[str]:
        """Return the command that begins a training in ``out``."""
        data = [
            "--dataset",
            str(self.home / "data" / "train.json"),
            "--validate",
            str(self.home / "val" / "train.json"),
        ]
        begin = ["--from", str(self.weights), "--vocabulary", str(self.home / "tags.txt")]
        sizes = ["--batch", str(BATCH), "--size", str(SIZE), "--learning-rate", "0.001"]
        how = ["--device", "cpu", "--save-every", "2", "--workers", "2", "--out", str(out)]
        return ["train", "finetune", *data, *MOST_BAD, *begin, *sizes, *how, *more]


def write_small_run(home: Path, model: str = "ram_plus") -> SmallRun:
    """Write the files into a folder."""
    run = SmallRun(home)
    (home / "data").mkdir()
    (home / "val").mkdir()
    write_official_set(home / "data", BATCH * STEPS, broken=(3, 17))
    write_official_set(home / "val", 6, broken=(2,))
    (home / "tags.txt").write_text("\n".join(NAMES), encoding="utf-8")
    write_tiny_checkpoint(model, run.weights, tags=len(NAMES), captions=True)
    clip = run.models / "clip-vit-base-patch16"
    clip.mkdir(parents=True)
    write_tiny_clip(clip, image_size=224)
    return run
