"""A training that is interrupted ends as one that is not."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ram_core import load_model
from ram_core.errors import TrainingError, TrainingStoppedError
from ram_core.training import TrainingBatch, files
from ram_core.training.states import States
from ram_core.training.trainer import Options, Progress, Watch
from tests.small_training import CALM, OPTIONS, RECIPE, STEPS, VOCABULARY, Noise, Seen, trainer, write_start

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.pth")


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(path: Path) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return stored


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(each, theirs[key]) for key, each in ours.items())


@pytest.mark.usefixtures("_one_thread")
def test_a_killed_and_resumed_training_ends_with_the_same_weights_bit_for_bit(start: Path, tmp_path: Path) -> None:
    whole = trainer(start, tmp_path / "whole").run()
    assert not same(whole, start)
    killed = tmp_path / "killed"
    for last in ("0 8", "1 3"):  # in the middle of an epoch, some steps after the last state
        command = [sys.executable, "-m", "tests.small_training", str(start), str(killed)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == last:
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    seen = Seen()
    resumed = trainer(start, killed, watch=seen).run(resume=True)
    assert (seen.steps[0].epoch, seen.steps[0].step) == (1, 0)
    assert same(resumed, whole)


def test_rates_steps_and_losses_are_reported_and_the_result_is_loaded(start: Path, tmp_path: Path) -> None:
    watch = Seen()
    path = trainer(start, tmp_path, watch=watch).run()
    seen = watch.steps
    assert [(each.epoch, each.step) for each in seen] == [(epoch, step) for epoch in range(2) for step in range(STEPS)]
    assert [seen[0].learning_rate, seen[5].learning_rate, seen[-1].learning_rate] == pytest.approx([5e-7, 1e-4, 9e-5])
    assert {"tag", "align", "distill", "total"} == seen[0].losses.keys()
    model = load_model("ram_plus", checkpoint=path, vocabulary=VOCABULARY)
    assert model.tag_logits(torch.zeros(1, 3, 384, 384)).shape == (1, 8)


def test_the_best_epoch_and_the_last_states_are_kept(start: Path, tmp_path: Path) -> None:
    scores, seen = iter([0.9, 0.7, 0.3]), Seen()
    path = trainer(start, tmp_path, validate=lambda _: next(scores), watch=seen).run()
    assert seen.scores == [(0, 0.9), (1, 0.7), (2, 0.3)]  # before the first step too
    assert path.name == "best.pth"
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert not same(path, tmp_path / "last.pth")
    assert len(list((tmp_path / "states").iterdir())) == OPTIONS.keep
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.pth", "last.pth", "states"]


def test_a_damaged_state_is_passed_over(tmp_path: Path) -> None:
    states = States(tmp_path, 3)
    assert states.last() is None
    for step in (1, 2, 3, 4):
        states.save(step, {"step": step})
    assert len(list(tmp_path.iterdir())) == 3
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    assert states.last() == {"step": 3}


def test_a_damaged_state_does_not_outlive_the_good_ones(tmp_path: Path) -> None:
    states = States(tmp_path, 2)
    for step in (500, 1000, 1500):
        states.save(step, {"step": step})
    damaged = max(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert states.last() == {"step": 1000}
    states.save(1200, {"step": 1200})  # went on from 1000
    assert sorted(each.name for each in tmp_path.iterdir()) == ["step-000001000.pt", "step-000001200.pt"]
    assert states.last() == {"step": 1200}


def test_a_folder_with_another_training_is_not_touched(start: Path, tmp_path: Path) -> None:
    small = {"batches": Noise(2), "recipe": replace(RECIPE, epochs=1)}
    trainer(start, tmp_path, **small).run()
    with pytest.raises(TrainingError, match="has states of a training; resume it"):
        trainer(start, tmp_path, **small).run()
    with pytest.raises(TrainingError, match="a training with other seed;"):
        trainer(start, tmp_path, **small, options=replace(OPTIONS, seed=4)).run(resume=True)
    with pytest.raises(TrainingError, match="a training with other data;"):
        trainer(start, tmp_path, **small, about={"data": "another hash"}).run(resume=True)
    assert trainer(start, tmp_path, **small).run(resume=True).name == "last.pth"  # ended before


@pytest.mark.usefixtures("_one_thread")
def test_a_training_that_is_asked_to_stop_saves_its_state_and_goes_on_exactly(start: Path, tmp_path: Path) -> None:
    small = {"batches": Noise(4), "recipe": replace(RECIPE, epochs=1)}
    whole = trainer(start, tmp_path / "whole", **small).run()
    for last in (3, 1):  # in the middle of the epoch, and after its last step
        with pytest.raises(TrainingStoppedError, match=r"stopped after step [34] of 4 in epoch 1; the state is in"):
            trainer(start, tmp_path / "stopped", **small, watch=Seen(stop_after=last)).run(resume=True)
    seen = Seen()
    assert same(trainer(start, tmp_path / "stopped", **small, watch=seen).run(resume=True), whole)
    assert seen.steps == []


class _Spoilt(Noise):
    def epoch(self, number: int, start: int) -> Iterator[TrainingBatch]:
        for step, batch in enumerate(super().epoch(number, start), start):
            if step == 8:
                batch.pixels.fill_(float("nan"))
            yield batch


def test_a_loss_that_is_no_number_stops_the_training_before_it_harms(start: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError,
        match=r"is nan at epoch 1, step 9, with a learning rate of 0\.0001; train again .*, from .*step-000000006\.pt",
    ):
        trainer(start, tmp_path, batches=_Spoilt()).run()
    state = States(tmp_path / "states", 2).last()
    assert state is not None
    assert state["position"] == {"epoch": 0, "step": 6, "best": None}
    assert all(bool(each.isfinite().all()) for each in state["model"].values())


@pytest.mark.parametrize("size", [1, 1_000, 1_000_000])
def test_a_full_disk_is_told_whatever_torch_makes_of_it(size: int, tmp_path: Path) -> None:
    full = tmp_path / "a.pt.part"
    full.symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="no space left for the training in"), files.room(tmp_path):
        files.write_whole(tmp_path / "a.pt", {"a": torch.zeros(size), "b": torch.zeros(size)})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_a_state_is_deleted(start: Path, tmp_path: Path) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "step-000000008.pt.part").write_bytes(b"half")
    trainer(start, tmp_path, recipe=replace(RECIPE, epochs=1)).run(resume=True)
    assert not list((tmp_path / "states").glob("*.part"))


def test_a_training_that_lost_its_states_does_not_begin_again(start: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {"recipe": replace(RECIPE, epochs=1)}
    trainer(start, tmp_path, **small).run()
    before = (tmp_path / "last.pth").read_bytes()
    for state in (tmp_path / "states").iterdir():
        state.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match=r"has no state that can be read.*--from .*last.pth"):
        trainer(start, tmp_path, **small).run(resume=True)
    shutil.rmtree(tmp_path / "states")
    with pytest.raises(TrainingError, match="has no state that can be read"):
        trainer(start, tmp_path, **small).run(resume=True)
    assert (tmp_path / "last.pth").read_bytes() == before


class Deletes(Watch):
    """Deletes the folder while a training runs."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    def stepped(self, progress: Progress) -> None:
        if progress.step == self.step:
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("step", [0, 5])
def test_a_folder_that_is_deleted_while_it_trains_is_named_and_not_made_again(
    start: Path, tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match="run, the folder of the training, is gone"):
        trainer(start, folder, watch=Deletes(folder, step)).run()
    assert not folder.exists()


def test_a_full_disk_stops_the_training_and_leaves_the_last_state(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = torch.save, []

    def fill(content: Any, stream: Any) -> None:
        written.append(stream)
        if len(written) == 2:
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, stream)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(TrainingError, match=r"no space left for the training in .*; make room and resume"):
        trainer(start, tmp_path).run()
    assert [each.name for each in (tmp_path / "states").iterdir()] == ["step-000000006.pt"]
    monkeypatch.undo()
    seen = Seen()
    trainer(start, tmp_path, watch=seen).run(resume=True)
    assert seen.steps[0].step == 6


def test_data_that_end_too_early_are_reported(start: Path, tmp_path: Path) -> None:
    class Short(Noise):
        def steps(self) -> int:
            return self._steps + 1

    with pytest.raises(TrainingError, match="fewer batches than it said"):
        trainer(start, tmp_path, batches=Short(2)).run()


@pytest.mark.usefixtures("_one_thread")
def test_processes_that_share_a_training_make_the_steps_of_one_that_accumulates(start: Path, tmp_path: Path) -> None:
    seen = Seen()
    options = replace(OPTIONS, accumulate=2)
    alone = trainer(start, tmp_path / "alone", options=options, recipe=CALM, batches=Noise(6), watch=seen).run()
    assert [each.step for each in seen.steps] == [0, 1, 2]
    assert [each.learning_rate for each in seen.steps] == pytest.approx(
        [5e-7 + (1e-4 - 5e-7) / 5 * step for step in range(3)]
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tests.small_training", str(start), str(tmp_path / "both")]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    ours, theirs = weights(tmp_path / "both" / "last.pth"), weights(alone)
    changed = [key for key, each in weights(start).items() if not torch.equal(each, theirs[key])]
    assert len(changed) > 100
    for key in changed:
        # AdamW makes a whole step of a gradient that is rounding alone.
        limit = 4e-4 if key.endswith(("key.bias", "qkv.bias")) else 1e-5
        assert float((ours[key] - theirs[key]).abs().max()) < limit, key


def test_16_bits_train(start: Path, tmp_path: Path) -> None:
    seen = Seen()
    options = replace(OPTIONS, precision="bfloat16", recompute=True)
    small = {"batches": Noise(3), "recipe": replace(RECIPE, epochs=1), "options": options}
    path = trainer(start, tmp_path / "half", **small, watch=seen).run()
    assert all(each.dtype == torch.float32 for each in weights(path).values())
    exact = Seen()
    trainer(start, tmp_path / "exact", **{**small, "options": OPTIONS}, watch=exact).run()
    assert seen.steps[0].losses["total"] == pytest.approx(exact.steps[0].losses["total"], rel=0.05)


def test_options_out_of_range_are_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="an epoch has 3 batches, but a step accumulates 4"):
        trainer(start, tmp_path, batches=Noise(3), options=replace(OPTIONS, accumulate=4))
    with pytest.raises(TrainingError, match="precision 'int8' is unknown; use float32, bfloat16, float16"):
        Options(precision="int8")
    with pytest.raises(TrainingError, match="keep is 0"):
        Options(keep=0)
