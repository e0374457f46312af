"""The folder of a training that nobody ran, as ``ram_core.training.run`` writes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

STEPS, EPOCHS = 20, 2


def write_made_up_run(folder: Path, *, steps_done: int = 30, started: str = "2026-11-29T04:00:00+00:00") -> Path:
    """Write a training that has done some of its 40 steps, and seen two bad images."""
    folder.mkdir(parents=True)
    about = {
        "model": "ram_plus",
        "recipe": "finetune",
        "parent": {"name": "ram_plus", "path": None, "sha256": "0" * 64},
        "data": {"name": "birds.json", "images": 520, "captions": 1040, "tags": 2000},
        "settings": {"recipe": "finetune", "batch": 26},
        "epochs": EPOCHS,
        "steps": STEPS * EPOCHS,
        "started_at": started,
    }
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    lines: list[dict[str, Any]] = [{"kind": "state", "state": "running"}]
    lines.append({"kind": "score", "epochs": 0, "validation_map": 0.25})
    for step in range(1, steps_done + 1):
        losses = {"tag": 60 / step, "distill": 0.5, "align": 30 / step, "total": 90 / step + 0.5}
        pace = {"images_per_second": 13.0, "seconds_left": 2.0 * max(0, STEPS * EPOCHS - step)}
        epoch = (step - 1) // STEPS + 1
        lines.append({"kind": "step", "epoch": epoch, "step": step, "learning_rate": 5e-6, "losses": losses, **pace})
        if step % STEPS == 0:
            lines.append({"kind": "score", "epochs": epoch, "validation_map": 0.25 + 0.1 * epoch})
    (folder / "scalars.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    bad = [{"name": f"{number}.jpg", "reason": "no picture"} for number in range(2)]
    (folder / "bad.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in bad), encoding="utf-8")
    return folder


def add_line(folder: Path, **entry: Any) -> None:
    """Add a line to what a training wrote."""
    with (folder / "scalars.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
