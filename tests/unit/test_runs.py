"""The folders of trainings, read while they run and afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
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


DEEP = b"[" * 100_000
ABOUT_FAULTS: list[bytes | dict[str, Any]] = [
    DEEP,
    b"{",
    b"[]",
    b"\xff",
    {"started_at": "2026-11-29T04:00:00"},  # without a zone
    {"started_at": 4},
    {"steps": "<b>"},
    {"steps": 1.5},
    {"steps": -1},
    {"epochs": True},
    {"data": 3},
    {"data": {"name": "a", "images": [], "captions": 1}},
    {"data": {"name": "a", "images": 1, "captions": 1, "more": float("nan")}},
    {"settings": []},
    {"settings": {"batch": {}}},
    {"settings": {"batch": float("inf")}},
    {"parent": "ram"},
    {"parent": {"name": "\ud83d", "path": None, "sha256": "0"}},
    {"model": "<b>"},
    {"recipe": None},
]


@pytest.mark.parametrize("fault", ABOUT_FAULTS)
def test_a_run_with_damaged_settings_is_passed_over_and_named(fault: bytes | dict[str, Any], tmp_path: Path) -> None:
    write_made_up_run(tmp_path / "good")
    bad = write_made_up_run(tmp_path / "bad")
    path = bad / "run.json"
    if isinstance(fault, dict):
        fault = json.dumps(json.loads(path.read_text()) | fault).encode()
    path.write_bytes(fault)
    assert [run.name for run in runs(tmp_path)] == ["good"]
    with pytest.raises(TrainingError, match=r"run.json cannot be read") as raised:
        read_run(bad)
    assert "\n" not in str(raised.value)


SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)
STEP = {"kind": "step", "epoch": 1, "step": 31, "learning_rate": 0.1, "losses": {"tag": 1.0}}
LINE_FAULTS: list[bytes | dict[str, Any]] = [
    DEEP,
    b"\xff",
    b"3",
    json.dumps(STEP).replace("0.1", "1e400").encode(),
    STEP | {"step": "31"},
    STEP | {"step": float("nan")},
    STEP | {"step": float("inf")},
    STEP | {"step": 10**400},
    STEP | {"losses": {"tag": float("nan")}},
    STEP | {"losses": {"\ud83d": 1.0}},
    STEP | {"losses": [1.0]},
    STEP | {"images_per_second": "fast"},
    STEP | {"seconds_left": 1e300},
    {"kind": "score", "epochs": 1, "validation_map": float("nan")},
    {"kind": "score", "epochs": [], "validation_map": 0.5},
    {"kind": "state", "state": "exploded"},
    {"kind": "state", "state": "failed", "note": ["<b>"]},
    {"kind": ["step"]},
]


@pytest.mark.parametrize("fault", LINE_FAULTS)
def test_a_line_that_is_none_is_left_out(fault: bytes | dict[str, Any], tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "run")
    before = replace(read_run(folder), updated_at=SOME_TIME)
    with (folder / "scalars.jsonl").open("ab") as stream:
        stream.write((fault if isinstance(fault, bytes) else json.dumps(fault).encode()) + b"\n")
    assert replace(read_run(folder), updated_at=SOME_TIME) == before
    journal = Journal(folder, epochs=2, images_per_step=8)
    journal.began(30, 2)
    journal.ended(None)
    assert len(read_run(folder).points) == 30


@pytest.mark.parametrize("name", ["run.json", "scalars.jsonl", "bad.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
def test_only_regular_files_of_a_sane_size_are_read(name: str, kind: str, tmp_path: Path) -> None:
    write_made_up_run(tmp_path / "good")
    path = write_made_up_run(tmp_path / "bad") / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    assert [run.name for run in runs(tmp_path)] == ["good"]


def test_a_lock_that_is_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "run")
    os.mkfifo(folder / "lock")
    assert read_run(folder).state == "interrupted"
    with pytest.raises(TrainingError, match="lock"), locked(folder):
        pass


def test_names_of_folders_are_bytes(tmp_path: Path) -> None:
    write_made_up_run(tmp_path / os.fsdecode(b"birds\xff"))
    (run,) = runs(tmp_path)
    assert run.name == "birds?"
    run.folder.encode()


def test_long_notes_and_those_that_are_no_unicode_are_kept_readable(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "run")
    journal = Journal(folder, epochs=2, images_per_step=8)
    journal.began(30, 2)
    journal.ended(TrainingError("a dog \ud83d" + 5000 * "x"))
    run = read_run(folder)
    assert run.state == "failed"
    assert str(run.note).startswith("a dog ?xxx")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(TrainingError, match=r"file/run cannot be written to: Not a directory"),
        locked(tmp_path / "file" / "run"),
    ):
        pass


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


def test_a_training_that_begins_again_has_one_score_from_before_learning(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "run", steps_done=0)
    (folder / "scalars.jsonl").unlink()
    for steps_done, score in ((0, 0.1), (0, 0.2), (3, None)):
        journal = Journal(folder, epochs=2, images_per_step=8)
        journal.began(steps_done, 0)
        if score is not None:
            journal.scored(0, score)
        journal.ended(None)
    assert [(each.epochs, each.validation_map) for each in read_run(folder).scores] == [(0, 0.2)]


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
