"""Evaluation: figures against scikit-learn, the official files' formats, runs that stop and go on."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ram_core import evaluate
from ram_core.annotations import Benchmark, read_benchmark, read_descriptions
from ram_core.errors import ModelError
from ram_core.metrics import average_precision, measure
from ram_core.modeling.tiny import write_tiny_models
from ram_core.registry import load_model
from ram_core.score_table import ScoreTable
from ram_core.transforms import normalise
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAGS = 8


@pytest.fixture(scope="module")
def theirs() -> Any:
    """What scikit-learn has. To import it takes a second, which only the process that compares should spend."""
    return import_module("sklearn.metrics")


def _synthetic(seed: int, *, ties: bool = False, absent: bool = False) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    targets = random.random((200, 12)) < random.uniform(0.02, 0.5, 12)
    targets[0] = True
    scores = np.clip(0.3 * targets + random.normal(0.4, 0.2, targets.shape), 0, 1).astype(np.float32)
    if ties:
        scores = scores.round(1)
    if absent:
        targets[:, 3] = False
    return scores, targets


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(theirs: Any, seed: int, ties: bool) -> None:
    scores, targets = _synthetic(seed, ties=ties)
    expected = [theirs.average_precision_score(targets[:, c], scores[:, c]) for c in range(12)]
    metrics = measure(scores, targets, 0.5)
    np.testing.assert_allclose(metrics.classes.average_precision, expected, rtol=1e-12)
    assert metrics.mean_average_precision == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("absent", [False, True])
def test_precision_recall_and_f1_are_those_of_scikit_learn(theirs: Any, absent: bool) -> None:
    scores, targets = _synthetic(1, absent=absent)
    thresholds = np.linspace(0.2, 1.1, 12, dtype=np.float32)  # the last tag is never assigned
    assigned = scores >= thresholds
    metrics = measure(scores, targets, thresholds)
    options: dict[str, Any] = {"zero_division": 0}
    np.testing.assert_allclose(
        metrics.classes.precision, theirs.precision_score(targets, assigned, average=None, **options)
    )
    np.testing.assert_allclose(metrics.classes.recall, theirs.recall_score(targets, assigned, average=None, **options))
    np.testing.assert_allclose(metrics.classes.f1, theirs.f1_score(targets, assigned, average=None, **options))
    assert metrics.overall_precision == pytest.approx(
        theirs.precision_score(targets, assigned, average="micro", **options)
    )
    assert metrics.overall_recall == pytest.approx(theirs.recall_score(targets, assigned, average="micro", **options))
    assert metrics.overall_f1 == pytest.approx(theirs.f1_score(targets, assigned, average="micro", **options))
    cp = theirs.precision_score(targets, assigned, average="macro", **options)
    cr = theirs.recall_score(targets, assigned, average="macro", **options)
    assert metrics.class_precision == pytest.approx(cp)
    assert metrics.class_recall == pytest.approx(cr)
    assert metrics.class_f1 == pytest.approx(2 * cp * cr / (cp + cr))


def test_a_tag_that_no_image_has_counts_as_zero_and_is_also_left_out(theirs: Any) -> None:
    scores, targets = _synthetic(2, absent=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of the very case
        expected = [theirs.average_precision_score(targets[:, c], scores[:, c]) for c in range(12)]
    metrics = measure(scores, targets, 0.5)
    assert metrics.classes.average_precision[3] == 0.0
    assert metrics.mean_average_precision == pytest.approx(np.mean(expected))
    assert metrics.mean_average_precision_present == pytest.approx(np.mean(np.delete(expected, 3)))


def test_a_score_at_its_threshold_counts_as_assigned() -> None:
    metrics = measure(np.array([[0.5], [0.4]]), np.array([[True], [False]]), 0.5)
    assert (metrics.overall_precision, metrics.overall_recall) == (1.0, 1.0)


def test_the_order_of_equal_scores_changes_nothing() -> None:
    scores = np.zeros(10)
    targets = np.arange(10) < 3
    assert average_precision(scores, targets) == average_precision(scores, targets[::-1]) == pytest.approx(0.3)


def test_nothing_assigned_and_nothing_wanted_is_zero_not_an_error() -> None:
    metrics = measure(np.zeros((4, 2)), np.zeros((4, 2), dtype=bool), 0.5)
    assert (metrics.overall_f1, metrics.class_f1, metrics.mean_average_precision) == (0.0, 0.0, 0.0)
    assert metrics.mean_average_precision_present == 0.0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_no_scores_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        measure(np.zeros(shape), np.zeros(shape, dtype=bool), 0.5)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        measure(np.array([[np.nan]]), np.array([[True]]), 0.5)


def _write(folder: Path, annotations: str, taglist: str) -> Benchmark:
    (folder / "annots.txt").write_text(annotations, encoding="utf-8")
    (folder / "tags.txt").write_text(taglist, encoding="utf-8")
    return read_benchmark(folder / "annots.txt", folder / "tags.txt")


@pytest.mark.parametrize(
    ("annotations", "taglist"),
    [
        ("test/a,dog,sports car\ntest/b\ntest/c,cat\n", "cat\ndog\nsports car\n"),  # OpenImages
        ("test/a,1 2\ntest/b\ntest/c,0\n", "cat\ndog\nsports car"),  # ImageNet-multi, HICO
        ("test/a,2472,1786\ntest/b\ntest/c,17\n", "17\n2472\n1786\n"),  # Tag2Text
    ],
)
def test_the_official_formats_are_read(tmp_path: Path, annotations: str, taglist: str) -> None:
    benchmark = _write(tmp_path, annotations, taglist)
    assert benchmark.images == ("test/a", "test/b", "test/c")
    assert benchmark.targets.tolist() == [[False, True, True], [False] * 3, [True, False, False]]


def test_a_tag_that_stands_twice_in_the_list_is_wanted_twice(tmp_path: Path) -> None:
    benchmark = _write(tmp_path, "a,crane\nb,dog\n", "crane\ndog\ncrane\n")
    assert benchmark.targets.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize(("annotations", "label"), [("a,dog\nb,cow\n", "cow"), ("a,0\nb,1 7\n", "7")])
def test_an_annotation_outside_the_list_is_named_with_its_line(tmp_path: Path, annotations: str, label: str) -> None:
    with pytest.raises(ModelError, match=rf"annots.txt, line 2: '{label}' is not in"):
        _write(tmp_path, annotations, "cat\ndog\n")


@pytest.mark.parametrize(("count", "name"), [(600, "hico_600"), (200, "openimages_rare_200_ram")])
def test_the_official_tag_lists_are_read(request: pytest.FixtureRequest, tmp_path: Path, count: int, name: str) -> None:
    path = Path(os.environ.get("RAMQ_SHARED_DIR", request.config.rootpath.parent / "shared"))
    if not path.is_dir():
        pytest.skip("the official lists are not here; name their folder with RAMQ_SHARED_DIR")
    (tmp_path / "annots.txt").write_text("a\n", encoding="utf-8")
    assert len(read_benchmark(tmp_path / "annots.txt", path / "ram" / f"{name}_taglist.txt").tags) == count


def test_tags_are_matched_by_name_id_or_position() -> None:
    tags = TagVocabulary.from_names("v", ["dog", "cat", "dog"])
    nothing = np.zeros((1, 2), dtype=bool)
    assert evaluate.match_tags(tags, Benchmark(("cat", "dog"), ("a",), nothing, "")).tolist() == [1, 0]
    assert evaluate.match_tags(tags, Benchmark(("2", "1"), ("a",), nothing, "")).tolist() == [2, 1]
    other = Benchmark(("Hund", "Katze", "Hunde"), ("a",), np.zeros((1, 3), dtype=bool), "")
    assert evaluate.match_tags(tags, other, by_position=True).tolist() == [0, 1, 2]
    with pytest.raises(ModelError, match=r"3 tags .* 'Hund'.*--open-set"):
        evaluate.match_tags(tags, other)
    with pytest.raises(ModelError, match="id 3, but the model has only 3 tags"):
        evaluate.match_tags(tags, Benchmark(("3",), ("a",), nothing, ""))


def test_annotations_and_lists_may_have_any_name_of_a_tag(tmp_path: Path) -> None:
    own = TagVocabulary(
        "own",
        ("dog", "cat/kitty", "crane", "crane"),
        ("狗", "猫/猫咪", "鹤", "起重机"),
        np.full(4, 0.5, dtype=np.float32),
    ).with_synonyms({0: ["hound"], 2: ["bird with long legs"]})
    (tmp_path / "tags.txt").write_text("Hound\n猫咪\n", encoding="utf-8")
    (tmp_path / "annots.txt").write_text("a,狗\nb,KITTY,hound\nc,猫\nd\n", encoding="utf-8")
    benchmark = read_benchmark(tmp_path / "annots.txt", tmp_path / "tags.txt", own)
    assert benchmark.targets.tolist() == [[True, False], [True, True], [False, True], [False, False]]
    assert evaluate.match_tags(own, benchmark).tolist() == [0, 1]
    nothing = np.zeros((1, 1), dtype=bool)
    assert evaluate.match_tags(own, Benchmark(("bird with long legs",), ("a",), nothing, "")).tolist() == [2]
    assert evaluate.match_tags(own, Benchmark(("crane",), ("a",), nothing, "")).tolist() == [2], "as before"
    shared = TagVocabulary.from_names("own", ["dog/pet", "cat/pet"])
    with pytest.raises(ModelError, match="'pet' in the tag list means several tags; use one of cat/pet, dog/pet"):
        evaluate.match_tags(shared, Benchmark(("pet",), ("a",), nothing, ""))
    # Without the vocabulary the names within the list are known, and a number is never a name.
    (tmp_path / "tags.txt").write_text("cat/kitty\ndog\n", encoding="utf-8")
    (tmp_path / "annots.txt").write_text("a,kitty\nb,Dog\n", encoding="utf-8")
    assert read_benchmark(tmp_path / "annots.txt", tmp_path / "tags.txt").targets.tolist() == [
        [True, False],
        [False, True],
    ]
    (tmp_path / "annots.txt").write_text("a,kitty\nb,1\n", encoding="utf-8")
    with pytest.raises(ModelError, match="line 2: '1' is not in"):
        read_benchmark(tmp_path / "annots.txt", tmp_path / "tags.txt", own)


def test_descriptions_are_found_by_any_name_of_their_tag(tmp_path: Path) -> None:
    path = tmp_path / "descriptions.json"
    path.write_text(json.dumps([{"cat/kitty": ["small", "soft"]}, {"Dog": ["barks"]}]), encoding="utf-8")
    assert read_descriptions(path, ["kitty", "dog"]) == {"kitty": ["small", "soft"], "dog": ["barks"]}
    with pytest.raises(ModelError, match="no description of 'cow'"):
        read_descriptions(path, ["kitty", "cow"])


def test_scores_of_another_run_are_not_continued(tmp_path: Path) -> None:
    ScoreTable(tmp_path, (4, 2), {"generation": "one"})
    with pytest.raises(ModelError, match=r"differs in generation.*another folder"):
        ScoreTable(tmp_path, (4, 2), {"generation": "two"})


def test_a_table_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    ScoreTable(tmp_path, (400, 20), {})
    (tmp_path / "scores.npy").write_bytes((tmp_path / "scores.npy").read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        ScoreTable(tmp_path, (400, 20), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, annotations for them, and a small RAM with made-up weights."""
    folder = tmp_path_factory.mktemp("benchmark")
    random = np.random.default_rng(0)
    images = folder / "images/test"
    images.mkdir(parents=True)
    lines = []
    for i in range(10):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(images / f"{i}.jpg")
        wanted = [f"tag {t}" for t in range(TAGS) if random.random() < 0.4]
        lines.append(",".join([f"test/{i}", *wanted]))
    (folder / "annots.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tags.txt").write_text("\n".join(f"tag {t}" for t in range(TAGS - 1, -1, -1)), encoding="utf-8")
    write_tiny_models("ram", folder / "models", tags=TAGS)
    return folder


def _arguments(folder: Path, output: Path, *more: str) -> list[str]:
    paths = {
        "--images": folder / "images",
        "--annotations": folder / "annots.txt",
        "--taglist": folder / "tags.txt",
        "--models-dir": folder / "models",
        "--output": output,
    }
    flat = [part for option, path in paths.items() for part in (option, str(path))]
    return ["--model", "ram", "--device", "cpu", "--batch-size", "4", *flat, *more]


def test_a_run_reports_what_the_model_scores(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(_arguments(folder, tmp_path, "--threshold", "0.5")) == 0
    model: Any = load_model("ram", models_dir=folder / "models")
    benchmark = read_benchmark(folder / "annots.txt", folder / "tags.txt")
    import torch  # noqa: PLC0415  (only here)

    pixels = np.stack([model.preprocessing(Image.open(folder / f"images/test/{i}.jpg")) for i in range(10)])
    logits = model.tag_logits(normalise(torch.from_numpy(pixels), model.preprocessing.mean, model.preprocessing.std))
    scores = logits.sigmoid().numpy()[:, ::-1]
    expected = measure(scores, benchmark.targets, 0.5)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["mAP"] == pytest.approx(expected.mean_average_precision, abs=1e-6)
    assert summary["CF1"] == pytest.approx(expected.class_f1, abs=1e-6)
    assert f"mAP {100 * expected.mean_average_precision:6.2f}" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "per_class.csv").read_text().splitlines()))
    assert [row["tag"] for row in rows] == list(benchmark.tags)
    assert [int(row["images"]) for row in rows] == benchmark.targets.sum(axis=0).tolist()


def test_a_run_that_was_stopped_scores_only_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, batches = tmp_path / "whole", []
    assert evaluate.main(_arguments(folder, whole)) == 0
    scores = evaluate.tag_scores

    def counted(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(batches) == 1:
            batches.append(0)
            raise KeyboardInterrupt
        batches.append(len(pixels))
        return scores(model, pixels)

    monkeypatch.setattr(evaluate, "tag_scores", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(_arguments(folder, tmp_path / "stopped"))
    assert evaluate.main(_arguments(folder, tmp_path / "stopped")) == 0
    assert batches == [4, 0, 4, 2]
    assert (tmp_path / "stopped/summary.json").read_text() == (whole / "summary.json").read_text()


def test_an_image_that_cannot_be_read_is_named_left_out_and_tried_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images/test").mkdir(parents=True)
    for path in (folder / "images/test").iterdir():
        (tmp_path / "images/test" / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "images/test/3.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    (tmp_path / "images/test/7.jpg").unlink()
    arguments = _arguments(folder, tmp_path / "out")
    arguments[arguments.index("--images") + 1] = str(tmp_path / "images")
    assert evaluate.main(arguments) == 1
    printed = capsys.readouterr()
    assert "not read: test/3: " in printed.err
    assert "not read: test/7: not in" in printed.err
    assert "2 images could not be read" in printed.out
    assert json.loads((tmp_path / "out/summary.json").read_text())["images"] == 8
    for i in (3, 7):
        (tmp_path / f"images/test/{i}.jpg").write_bytes((folder / f"images/test/{i}.jpg").read_bytes())
    assert evaluate.main(arguments) == 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["images"] == 10


def test_a_folder_without_any_of_the_images_is_an_error_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(folder, tmp_path / "out")
    arguments[arguments.index("--images") + 1] = str(tmp_path)
    assert evaluate.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("evaluate: none of the 10 images could be read")


def test_lite_cannot_take_other_tags(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _arguments(folder, tmp_path, "--open-set")
    arguments[arguments.index("--model") + 1] = "lite"
    assert evaluate.main(arguments) == 2
    assert "lite cannot take other tags" in capsys.readouterr().err


def test_published_figures_stand_beside_the_official_annotations_only() -> None:
    targets = np.array([[True], [False]])
    metrics = measure(np.array([[0.9], [0.1]]), targets, 0.5)
    official = Benchmark(
        ("a",), ("x", "y"), targets, "68a0f34293550194ca9beb1ba6b0bed0bee134d5c956f286ef09427a484f3707"
    )
    assert "ram_plus on HICO 600" in evaluate.report("ram_plus", official, metrics)
    assert "published: 37.7" in evaluate.report("ram_plus", official, metrics)
    assert "published" not in evaluate.report("lite", official, metrics)
    assert "published" not in evaluate.report("ram_plus", Benchmark(("a",), ("x", "y"), targets, "0"), metrics)


def test_the_help_needs_no_torch() -> None:
    code = (
        "import sys; from ram_core import evaluate\n"
        "try: evaluate.main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
