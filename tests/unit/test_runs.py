"""The folders of trainings, read while they run and afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ram_core.errors import TrainingError
from ram_core.runs import MOST_POINTS, is_locked, locked, read_run, runs
from ram_core.training.journal import Journal
from ram_core.training.trainer import Progress
from tests.made_up_run import add_line, write_made_up_run

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_tells_how_far_it_is(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "birds")
    with locked(folder):
        run = read_run(folder)
        assert (run.state, run.step, run.steps, run.epoch, run.seconds_left) == ("running", 30, 40, 2, 20.0)
    assert (run.name, run.model, run.parent, run.bad_images) == ("birds", "ram_plus", "ram_plus", 2)
    assert [(score.epochs, score.validation_map) for score in run.scores] == [(0, 0.25), (1, 0.35)]
    killed = read_run(folder)
    assert (killed.state, killed.seconds_left) == ("interrupted", None)
    add_line(folder, kind="state", state="failed", note="no space left")
    assert (read_run(folder).state, read_run(folder).note) == ("failed", "no space left")


def test_what_was_cut_short_or_is_no_training_is_passed_over(tmp_path: Path) -> None:
    first = write_made_up_run(tmp_path / "a")
    write_made_up_run(tmp_path / "b", started="2026-11-29T05:00:00+00:00")
    with (first / "scalars.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "epo')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("[1")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_text("{}")
    assert [run.name for run in runs(tmp_path)] == ["b", "a"]
    assert runs(tmp_path / "nothing") == []
    with pytest.raises(TrainingError, match="cannot be read"):
        read_run(tmp_path / "d")


def test_long_curves_are_thinned_and_keep_their_end(tmp_path: Path) -> None:
    run = read_run(write_made_up_run(tmp_path / "long", steps_done=1000))
    assert len(run.points) == MOST_POINTS
    assert run.points[-1].step == 1000
    steps = [point.step for point in run.points]
    assert steps == sorted(set(steps))


def test_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(TrainingError, match="another process trains in"), locked(tmp_path):
            pass
    assert not is_locked(tmp_path)


def test_reading_runs_needs_no_torch() -> None:
    code = "import sys, ram_core.runs, ram_core.trained, ramq.services.trainings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def progress(step: int, *, epoch: int = 0, steps: int = 1000) -> Progress:
    return Progress(epoch, step, steps, 1e-4, {"total": float(step)})


def test_a_journal_writes_means_and_at_most_200_lines_an_epoch(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    journal = Journal(tmp_path, epochs=2, images_per_step=8, listen=seen.append)
    journal.began(0, 0)
    for step in range(1000):
        journal.stepped(progress(step))
    written = [each for each in seen if "at" in each and each["kind"] == "step"]
    assert [each["step"] for each in written] == list(range(5, 1001, 5))
    assert written[0]["losses"] == {"total": 2.0}
    assert len([each for each in seen if each["kind"] == "step"]) == 1000
    assert written[-1]["images_per_second"] > 0
    assert written[-1]["seconds_left"] > 0
    journal.ended(None)


def test_a_journal_that_goes_on_forgets_steps_that_are_made_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, epochs=2, images_per_step=8)
    journal.began(0, 0)
    for step in range(10):
        journal.stepped(progress(step, steps=10))
    journal.scored(1, 0.5)
    journal.stepped(progress(0, epoch=1, steps=10))
    journal.ended(None)
    again = Journal(tmp_path, epochs=2, images_per_step=8)
    again.began(6, 0)
    again.ended(None)
    lines = (tmp_path / "scalars.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"step"' in line and '"losses"' in line]) == 6
    assert not any('"score"' in line for line in lines)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    journal = Journal(tmp_path, epochs=1, images_per_step=8)
    journal.began(0, 0)
    for step in range(4):
        journal.stepped(progress(step, steps=4))
    journal.scored(1, 0.5)
    journal.ended(None)
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(each.step, each.value) for each in board.Scalars("loss/total")] == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert [(each.step, each.value) for each in board.Scalars("validation/map")] == [(4, 0.5)]
    assert {"learning_rate", "images_per_second"} <= set(board.Tags()["scalars"])
