"""``ramq train``: a run that is killed or stopped goes on exactly, and what is wrong is said in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner, Result

from ram_core import load_model
from ram_core.runs import read_run, runs
from ram_core.trained import add, read_tags
from ram_core.training import run as run_module
from ramq.cli.main import command_line
from storage.errors import RamqError, UsageError
from tests.small_run import EPOCHS, MOST_BAD, STEPS, SmallRun, write_small_run
from tests.training_data import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return write_small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def _settings(small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAMQ_MODELS_DIR", str(small.models))
    monkeypatch.setenv("RAMQ_TRAINING_DIR", str(tmp_path))
    monkeypatch.setenv("RAMQ_DATA_DIR", str(tmp_path / "ramq"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ramq(*words: str) -> Result:
    return CliRunner().invoke(command_line(words[0]), list(words), catch_exceptions=False)


def started(words: list[str], prefix: tuple[str, ...] = ("-m", "ramq.cli")) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *prefix, *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def signalled(words: list[str], step: int, number: signal.Signals) -> tuple[int, str]:
    """Send a signal when a step is reported; return the exit code and what was said."""
    with started([*words, "--json"]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            entry = json.loads(line)
            if entry["kind"] == "step" and entry["step"] == step:
                process.send_signal(number)
                break
        process.stdout.read()
        return process.wait(), process.stderr.read()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "model.pth", weights_only=True)["model"]
    return found


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(each, theirs[key]) for key, each in ours.items())


@pytest.fixture(scope="module")
def whole(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    patch = pytest.MonkeyPatch()
    patch.setenv("RAMQ_MODELS_DIR", str(small.models))
    torch.set_num_threads(1)
    done = ramq(*small.words(folder))
    patch.undo()
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder)
    assert "validation mAP" in done.stderr
    assert f"ramq models add NAME --from {folder}" in done.stderr
    return folder


def test_a_training_leaves_a_model_with_a_card_of_where_it_is_from(small: SmallRun, whole: Path) -> None:
    card = json.loads((whole / "model.json").read_text())
    assert (card["model"], card["recipe"], card["parent"]["name"]) == ("ram_plus", "finetune", "tiny.pth")
    assert (card["data"]["images"], card["steps"], card["bad_images"]) == (20, STEPS * EPOCHS, 3)
    assert card["changed"]["batch_size"] == [26, 4]
    assert len(card["data"]["sha256"]) == 64
    assert [each["epochs"] for each in card["metrics"]["scores"]] == [0, 1, 2]
    assert card["validation_map"] == max(each["validation_map"] for each in card["metrics"]["scores"][1:])
    assert {"tag", "distill", "align", "total"} == card["metrics"]["losses"].keys()
    assert read_tags(whole / "tags.json").names == NAMES
    model = load_model("ram_plus", checkpoint=whole / "model.pth", vocabulary=read_tags(whole / "tags.json"))
    assert model.preprocessing.size == 32
    parent = load_model("ram_plus", checkpoint=small.weights, vocabulary=read_tags(whole / "tags.json"))
    assert model.spec.fingerprint != parent.spec.fingerprint


def test_its_folder_tells_of_it(whole: Path) -> None:
    run = read_run(whole)
    assert (run.state, run.step, run.steps, run.epoch, run.epochs) == ("finished", 10, 10, 2, 2)
    assert [point.step for point in run.points] == list(range(1, 11))
    assert run.bad_images == 3
    assert run.seconds_left is None
    assert [each.name for each in runs(whole.parent)] == ["whole"]


def test_a_training_that_is_killed_and_resumed_ends_with_the_same_weights_bit_for_bit(
    small: SmallRun, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    code, _ = signalled(small.words(folder), 3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert read_run(folder).state == "interrupted"
    code, _ = signalled(
        ["train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD], 8, signal.SIGKILL
    )
    assert code == -signal.SIGKILL
    done = ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"][-1] == 10
    assert same(folder, whole)
    run = read_run(folder)
    assert [point.step for point in run.points] == list(range(1, 11))  # none twice
    assert [point.losses for point in run.points] == [point.losses for point in read_run(whole).points]
    assert run.scores == read_run(whole).scores
    assert run.bad_images == 3


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(small: SmallRun, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    code, told = signalled(small.words(folder), 4, signal.SIGINT)
    assert code == 130, told
    assert f"Go on with: ramq train finetune --out {folder} --resume" in told
    run = read_run(folder)
    assert run.state == "stopped"
    assert str(run.note).startswith("stopped after step")
    assert ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD).exit_code == 0
    assert same(folder, whole)


def test_a_manager_stops_a_training_as_ctrl_c_does(small: SmallRun, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    code, told = signalled(small.words(folder), 4, signal.SIGTERM)
    assert code == 130, told
    assert read_run(folder).state == "stopped"
    done = ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD)
    assert done.exit_code == 0
    assert f"Goes on from {folder}/states/step-00000000" in done.stderr
    assert same(folder, whole)


# What takes long before the first step, here for ever, and says that it has begun.
STUCK = """
import sys, time
import ram_core.training.run as run
def prepare(plan):
    print("stuck", flush=True)
    while True:
        time.sleep(60)
run.prepare = prepare
from ramq.cli.main import main
sys.argv = ["ramq", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_the_first_step_a_training_ends_at_once(number: signal.Signals, small: SmallRun, tmp_path: Path) -> None:
    with started(small.words(tmp_path / "run"), ("-c", STUCK)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(number)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "")
    assert not (tmp_path / "run").exists()


def test_a_training_that_saved_no_state_says_that_it_begins_again(small: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _ = signalled(small.words(folder), 1, signal.SIGKILL)
    assert code == -signal.SIGKILL
    for each in ("states", "last.pth", "best.pth"):  # it may have come further before it was killed
        shutil.rmtree(folder / each, ignore_errors=True)
        with suppress(OSError):
            (folder / each).unlink()
    resume = ["train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD]
    done = ramq(*resume)
    assert done.exit_code == 0
    assert "No state was saved before it ended, so it begins again" in done.stderr
    shutil.rmtree(folder / "states")
    with pytest.raises(UsageError, match="has no state that can be read, although the training saved some"):
        ramq(*resume, "--dry-run")


def test_a_folder_belongs_to_one_training(small: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with started([*small.words(folder, "--epochs", "1000"), "--json"]) as one:
        assert one.stdout is not None
        one.stdout.readline()  # it has the folder
        with pytest.raises(RamqError, match="has a training already"):
            ramq(*small.words(folder))
        with pytest.raises(RamqError, match="another process trains in"):
            ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD)
        one.kill()
        one.communicate()
    assert not (folder / "model.pth").exists()


def test_a_training_that_was_planned_before_another_ended_does_not_touch_it(small: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    real = run_module.prepare
    told: list[int] = []

    def prepare(plan: Any) -> Any:
        ready = real(plan)
        if not told:
            told.append(1)
            assert ramq(*small.words(folder, "--epochs", "1")).exit_code == 0
        return ready

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "prepare", prepare)
        with pytest.raises(RamqError, match="has a training already; resume it, or use another folder"):
            ramq(*small.words(folder))
    assert read_run(folder).epochs == 1
    assert read_run(folder).state == "finished"


@pytest.mark.parametrize(
    "fault", [{"settings": {"recipe": "finetune"}}, {"settings": {"recipe": "finetune", "dataset": 3}}, {"parent": {}}]
)
def test_a_damaged_run_is_not_resumed(fault: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fault))
    with pytest.raises(UsageError, match=r"run.json (is damaged|cannot be read) \("):
        ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu")


def test_a_folder_that_cannot_be_written_to_is_named(small: SmallRun, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RamqError, match="file/run cannot be written to: Not a directory; use another folder"):
        ramq(*small.words(tmp_path / "file" / "run"))


def test_an_empty_list_says_what_it_lists() -> None:
    told = " ".join(ramq("trainings").stderr.split())
    assert told.startswith("No trainings in RAMQ_TRAINING_DIR; see")
    assert told.endswith("Those with another --out are not listed.")


def test_several_processes_share_a_training(small: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ramq.cli")
    with started(small.words(folder, "--batch", "2", "--json"), launch) as process:
        told, errors = process.communicate()
    assert process.returncode == 0, errors
    run = read_run(folder)
    assert (run.state, run.step) == ("finished", STEPS * EPOCHS)
    assert run.settings["batch"] == 2
    assert len([line for line in told.splitlines() if '"step"' in line and '"losses"' in line]) == STEPS * EPOCHS


def test_a_resumed_training_refuses_other_settings_and_names_them(small: SmallRun, whole: Path) -> None:
    resume = ["--out", str(whole), "--resume"]
    with pytest.raises(UsageError, match=r"other settings: --batch is 8, there 4; --seed is 3, there 0\. Leave these"):
        ramq("train", "finetune", *resume, "--batch", "8", "--seed", "3")
    with pytest.raises(UsageError, match="the recipe is pretrain, there finetune"):
        ramq("train", "pretrain", *resume)
    with pytest.raises(UsageError, match="has a training already; go on with it"):
        ramq(*small.words(whole))
    with pytest.raises(UsageError, match="--resume needs the folder"):
        ramq("train", "finetune", "--resume")
    with pytest.raises(UsageError, match="has no training; start one without --resume"):
        ramq("train", "finetune", "--resume", "--out", str(small.home))


def test_a_resumed_training_refuses_other_data(small: SmallRun, tmp_path: Path) -> None:
    other = write_small_run(tmp_path)
    folder = tmp_path / "run"
    assert ramq(*other.words(folder, "--epochs", "1")).exit_code == 0
    data = other.home / "data" / "train.json"
    entries = json.loads(data.read_text())
    entries[0]["union_label_id"] = [4]
    data.write_text(json.dumps(entries))
    with pytest.raises(RamqError, match="is of a training with other data; train with the same"):
        ramq("train", "finetune", "--out", str(folder), "--resume", "--device", "cpu", *MOST_BAD)


def test_a_dry_run_checks_everything_and_writes_nothing(small: SmallRun, tmp_path: Path) -> None:
    done = ramq(*small.words(tmp_path / "none", "--dry-run"))
    assert done.exit_code == 0
    assert "ram_plus, finetune, from tiny.pth, with 5 tags" in done.stderr
    assert "2 epochs of 5 steps of 4 images of 32 pixels, learning rate 0.001" in done.stderr
    assert json.loads(ramq(*small.words(tmp_path / "none", "--dry-run", "--json")).stdout)["steps"] == 10
    assert not (tmp_path / "none").exists()


WRONG: list[tuple[list[str], str]] = [
    (["--batch", "64"], "20 images are fewer than a batch of 64; use smaller batches"),
    (["--batch", "1"], "ram_plus compares the captions of a batch with each other; give --batch 2 or more"),
    (["--precision", "float16"], "float16 needs a GPU; use bfloat16 or float32"),
    (["--precision", "int8"], "precision 'int8' is unknown"),
    (["--accumulate", "9"], "an epoch has 5 batches, but a step accumulates 9"),
    (["--size", "33"], "image_size is 33; use a multiple of 32"),
    (["--model", "ram"], "is a checkpoint of ram_plus, not of ram"),
    (["--model", "lite"], "is a checkpoint of ram_plus, not of lite"),
    (["--from", "nothing.pth"], "nothing.pth does not exist; give a file, the folder of a training"),
    (["--from", "ram"], "no checkpoint of ram in .*; run `ramq models pull ram`"),
    (["--from", "ram_plus@birds"], "ramq models add birds --from"),
    (["--from", "new"], "new weights of ram_plus need 51 descriptions of each tag, but the vocabulary 'tags' has none"),
    (["--dataset", "nothing.json"], "nothing.json does not exist"),
    (["--vocabulary", "FEWER"], "the vocabulary 'fewer' has 4"),
    (["--device", "cuda:7"], "No such device: cuda:7"),
    (["--learning-rate", "nan", "--dry-run"], "the learning rate is nan; give a number above 0"),
    (["--learning-rate", "-1"], "the learning rate is -1; give a number above 0"),
    (["--learning-rate", "inf"], "the learning rate is inf; give a number above 0"),
    (["--dataset", "PIPE"], "pipe.json is no regular file; write the data to a file first"),
]


@pytest.mark.parametrize(("words", "told"), WRONG)
def test_what_is_wrong_is_said_in_one_line(words: list[str], told: str, small: SmallRun, tmp_path: Path) -> None:
    if "FEWER" in words:
        (tmp_path / "fewer.txt").write_text("\n".join(NAMES[:4]))
        words = ["--vocabulary", str(tmp_path / "fewer.txt")]
    if "PIPE" in words:
        os.mkfifo(tmp_path / "pipe.json")
        words = ["--dataset", str(tmp_path / "pipe.json")]
    with pytest.raises(UsageError, match=told) as raised:
        ramq(*small.words(tmp_path / "run", *words))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_wrong_recipe_and_missing_data_are_said(small: SmallRun) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'tune'; known recipes: pretrain, finetune"):
        ramq("train", "tune", "--dataset", "x.json")
    with pytest.raises(UsageError, match="nothing to learn from; give --dataset PATH"):
        ramq("train", "finetune")


def test_a_missing_teacher_is_named(small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_MODELS_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="run `ramq models pull clip-vit-base-patch16`"):
        ramq(*small.words(tmp_path / "run"))


def test_a_trained_model_is_added_and_trained_further(small: SmallRun, whole: Path, tmp_path: Path) -> None:
    added = add("small", whole, small.models)
    assert "trained by finetune from tiny.pth, 20 images, 2 epochs, validation mAP" in added.summary
    words = [each for each in small.words(tmp_path / "more", "--epochs", "1") if each != "--vocabulary"]
    words.remove(str(small.home / "tags.txt"))
    for start in ("ram_plus@small", str(whole), str(whole / "last.pth")):
        words[words.index("--from") + 1] = start
        done = ramq(*words, "--dry-run", "--json")
        assert json.loads(done.stdout)["parent"]["name"] in {"ram_plus@small", "whole", "last.pth"}


def test_trainings_are_listed(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_TRAINING_DIR", str(whole.parent))
    listed: list[dict[str, Any]] = json.loads(ramq("trainings", "--json").stdout)
    assert [(each["name"], each["state"], each["folder"]) for each in listed] == [("whole", "finished", str(whole))]
    assert "whole" in ramq("trainings").stdout


def test_a_loss_that_is_no_number_ends_the_training_and_names_what_is_left(small: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    with pytest.raises(RamqError, match=r"the loss '\w+' is nan at epoch 1, step \d+, with a learning rate of 1e\+30"):
        ramq(*small.words(folder, "--learning-rate", "1e30", "--save-every", "1"))
    run = read_run(folder)
    assert run.state == "failed"
    assert "train again in another folder with a lower rate" in str(run.note)
    assert not (folder / "model.pth").exists()
