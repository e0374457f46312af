"""Data sets as files: exported and imported again, read by trainings, and with the pictures."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.training.data import open_dataset
from ramq.services.dataset_exchange import MARKER, _folder, check
from ramq.services.dataset_files import read
from ramq.services.dataset_views import BuildRequest, ImportRequest
from ramq.services.written_files import opened
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.datasets import items, labels
from storage.datasets.labels import Label
from storage.errors import UsageError
from tests.datasets import MadeUp, work
from tests.services.recognised import settings_for
from tests.services.web import services_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ram_core import TagVocabulary
    from storage.datasets.versions import VersionView

pytestmark = pytest.mark.services

TAGS = ["dog", "cat", "lawn", "tree|oak", "crane", "crane", "yes, sir", "salt+pepper", "3"]
DOG, CAT, LAWN, TREE, BIRD, MACHINE, COMMA, PLUS, DIGIT = range(9)


@pytest.fixture
def made_up(engine: Engine) -> MadeUp:
    return MadeUp(engine, TAGS)


@pytest.fixture
def services(made_up: MadeUp, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), made_up.engine, None, is_reachable=False)


@pytest.fixture
def version(services: Services, made_up: MadeUp) -> VersionView:
    """Pictures with several captions, with dropped tags, and without anything."""
    captions = ["A dog, on a lawn!", None, "=a cat", None, None, None, None, None]
    ids = made_up.add(
        [f"x/{n}.jpg" for n in range(8)],
        [[DOG, LAWN], [CAT, TREE], [], [LAWN, BIRD], [COMMA], [PLUS, DIGIT], [], [DOG, MACHINE]],
        captions=captions,
    )
    services.corrections.tag(ids[:2], add=["cat"], remove=["lawn"])
    made = work(services, services.datasets.build("pets", BuildRequest(sources=("file:///made-up",), validation=0.4)))
    with unit_of_work(services.engine) as session:
        items.add(session, made.id, [items.Item(ids[0], "v", captions=["a cat"], origins=["given"])])
        dropped = [(LAWN, "outlier"), (MACHINE, "contradicted"), (COMMA, "no_region"), (TREE, "outlier")]
        given = [Label(ids[3], tag, ["given", "generated"], reason, 0.9) for tag, reason in dropped]
        # A tag alone in its cell, and a comma in it.
        labels.put(session, made.id, [*given, Label(ids[6], COMMA, ["parsed"], "outlier")])
    return made


def everything(services: Services, version: VersionView) -> list[object]:
    with unit_of_work(services.engine) as session:
        pictures = items.after(session, version.id)
        told = labels.of_images(session, version.id, [each.image_id for each in pictures])
    return [
        (
            each.image_id,
            each.is_validation,
            list(each.captions),
            list(each.origins),
            [(one.tag_id, list(one.origins), one.reason) for one in told.get(each.image_id, [])],
        )
        for each in pictures
    ]


def export(services: Services, format_: str, out: Path, **more: object) -> None:
    done = services.datasets.export(
        "pets",
        format_,
        out,
        fetch=services.images.picture,
        failed=lambda *_: None,
        **more,  # type: ignore[arg-type]
    )
    assert done.left_out == 0


def imported(services: Services, file: Path, **more: object) -> VersionView:
    begun = services.datasets.import_(file, ImportRequest(name="again", **more))  # type: ignore[arg-type]
    return work(services, begun)


@pytest.mark.parametrize(("format_", "ending"), [("coco", "json"), ("parquet", "parquet"), ("csv", "csv")])
def test_what_is_exported_is_imported_as_it_was(
    services: Services, version: VersionView, tmp_path: Path, format_: str, ending: str
) -> None:
    file = tmp_path / f"pets.{ending}"
    export(services, format_, file)
    again = imported(services, file)
    assert (again.state, again.counts["left_out"]) == ("done", {})
    assert everything(services, again) == everything(services, version)


def test_official_files_keep_tags_and_are_what_trainings_read(
    services: Services, version: VersionView, tmp_path: Path
) -> None:
    file = tmp_path / "pets.json"
    export(services, "official", file)
    entries = json.loads(file.read_text())
    assert entries[0] == {
        "image_path": "x/0.jpg",
        "caption": ["a cat"],
        "parse_label_id": [[CAT]],
        "union_label_id": [DOG, CAT],
    }, "a caption that names what a person removed is left out"
    again = imported(services, file, images="file:///made-up")
    with unit_of_work(services.engine) as session:
        kept = [
            {
                each.image_id: [one.tag_id for one in found if one.reason is None]
                for each in items.after(session, one_version.id)
                if (found := labels.of_images(session, one_version.id, [each.image_id]).get(each.image_id, []))
            }
            for one_version in (version, again)
        ]
    assert {key: tags for key, tags in kept[0].items() if tags} == kept[1]


def test_a_split_alone_and_nothing_that_is_there_is_replaced(
    services: Services, version: VersionView, tmp_path: Path
) -> None:
    file = tmp_path / "pets.csv"
    export(services, "csv", file, split="validation")
    assert len(file.read_text().splitlines()) == 1 + version.counts["validation"]
    with pytest.raises(UsageError, match="is there already; give another --out, or --force"):
        export(services, "csv", file)
    export(services, "csv", file, may_replace=True)
    assert len(file.read_text().splitlines()) == 9
    with pytest.raises(UsageError, match="unknown format 'jpg'; choose one of official, coco"):
        export(services, "jpg", file)
    assert [path.name for path in tmp_path.glob("*pets*")] == ["pets.csv"], "nothing is left half written"


def test_a_file_of_others_is_matched_parsed_and_counted(services: Services, made_up: MadeUp, tmp_path: Path) -> None:
    ids = made_up.add(["x/a.jpg", "x/b.jpg"], [[], []])
    file = tmp_path / "theirs.jsonl"
    rows = [
        {"file_name": "a.jpg", "caption": ["a dog"], "tags": ["cat", "unicorn"]},
        {"file_name": "b.jpg", "tags": ["dog"]},
        {"file_name": "c.jpg", "caption": "a dog"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    again = imported(services, file, images="/made-up/x")
    assert again.counts["left_out"] == {"unknown": 1, "unknown_tag": 1}
    assert again.counts["left_out_names"] == ["unicorn", "c.jpg"]
    told = {each[0]: each[4] for each in everything(services, again)}  # type: ignore[index]
    assert told == {
        ids[0]: [(DOG, ["parsed"], None), (CAT, ["given"], None)],
        ids[1]: [(DOG, ["given"], None)],
    }
    with pytest.raises(UsageError, match="no picture of the file is recognised \\(unknown 3"):
        services.datasets.import_(file, ImportRequest(name="none"))


# With pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def recognised(client: TestClient) -> Services:
    return services_of(client)


def built(services: Services, archive: Path) -> VersionView:
    request = BuildRequest(sources=(str(archive),), validation=0.4)
    return work(services, services.datasets.build("pets", request))


def test_workers_keep_the_hash_of_what_they_recognised(recognised: Services, archive: Path) -> None:
    with recognised.engine.connect() as connection:
        rows = connection.execute(text("SELECT key, sha256 FROM record JOIN image ON image.id = image_id")).all()
    assert len(rows) > 10
    for row in rows:
        assert row.sha256 == hashlib.sha256((archive / row.key).read_bytes()).digest()


def test_folders_have_the_pictures_and_are_imported_as_they_were(
    recognised: Services, archive: Path, tmp_path: Path
) -> None:
    version = built(recognised, archive)
    assert version.counts["left_out"] == {"not_recognised": 2}
    assert version.counts["groups"] >= 1, "one photograph is there twice"
    for format_ in ("webdataset", "hf"):
        folder = tmp_path / format_
        export(recognised, format_, folder)
        begun = recognised.datasets.import_(folder, ImportRequest(name=f"from-{format_}"))
        again = work(recognised, begun)
        assert everything(recognised, again) == everything(recognised, version)
    shards = open_dataset(tmp_path / "webdataset", vocabulary=vocabulary_of(recognised, version))
    assert len(shards) == version.counts["images"] - version.counts["without_labels"]
    assert shards.read(0)[:4] in {b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1"}


def vocabulary_of(services: Services, version: VersionView) -> TagVocabulary:
    from workers.pipeline.tags import tag_vocabulary  # noqa: PLC0415

    with unit_of_work(services.engine) as session:
        return tag_vocabulary(session, version.vocabulary_id)


def test_the_library_of_hugging_face_reads_the_folder(recognised: Services, archive: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    version = built(recognised, archive)
    export(recognised, "hf", tmp_path / "hf")
    loaded = library.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == {
        "train": version.counts["images"] - version.counts["validation"],
        "validation": version.counts["validation"],
    }
    assert loaded["train"][0]["image"].size[0] > 1
    loaded["train"].save_to_disk(str(tmp_path / "saved" / "train"))
    begun = recognised.datasets.import_(tmp_path / "saved", ImportRequest(name="saved"))
    assert work(recognised, begun).counts["images"] == len(loaded["train"])


def test_trainings_learn_the_splits_of_a_version(recognised: Services, archive: Path) -> None:
    version = built(recognised, archive)
    vocabulary = vocabulary_of(recognised, version)
    splits = [recognised.training_data.of_dataset("pets", vocabulary, is_validation=each) for each in (False, True)]
    names = [{sample.name for sample in split.samples} for split in splits]
    assert names[0].isdisjoint(names[1])
    assert sum(map(len, names)) == version.counts["images"] - version.counts["without_labels"]
    about = splits[0].describe()
    assert (about["name"], about["dataset"], about["version"]) == ("pets@1, training", "pets", 1)
    assert about["dataset_sha256"] == version.sha256
    assert splits[0].read(0) == (archive / splits[0].samples[0].name).read_bytes()


def test_a_deleted_image_leaves_every_version_and_is_counted(recognised: Services, archive: Path) -> None:
    version = built(recognised, archive)
    image_id = recognised.images.find("coffee.png")
    with unit_of_work(recognised.engine) as session:
        count = len(labels.of_images(session, version.id, [image_id])[image_id])
        session.execute(
            text(
                """INSERT INTO dataset_review (image_id, dataset_id, tag_id, was_dropped, is_right, said_by)
                   VALUES (:image_id, :dataset_id, 1, true, true, 'local')"""
            ),
            {"image_id": image_id, "dataset_id": version.dataset_id},
        )
    report = recognised.erasures.delete(["coffee.png", "half.png"])
    assert (report.dataset_items, report.dataset_labels, report.dataset_reviews) == (1, count, 1)
    assert recognised.erasures.verify(report.deletion_id).is_clean
    assert recognised.datasets.deleted(version) == 1


# Odd files ---------------------------------------------------------------------------------------------------------


def test_rows_of_one_picture_are_merged_wherever_they_are(
    services: Services, made_up: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = made_up.add(["x/a.jpg", "x/b.jpg"], [[], []])
    rows = [
        {"image": "x/a.jpg", "caption": "a dog"},
        {"image": "x/a.jpg", "caption": "a cat", "tags": ["dog"]},
        {"image": "x/b.jpg", "caption": "a lawn"},
        {"image": "x/a.jpg", "caption": "a dog"},
    ]
    file = tmp_path / "captions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    request = ImportRequest(name="together")
    together = everything(services, work(services, services.datasets.import_(file, request)))
    assert [(each[0], each[2], each[4]) for each in together] == [  # type: ignore[index]
        (ids[0], ["a dog", "a cat"], [(DOG, ["given", "parsed"], None), (CAT, ["parsed"], None)]),
        (ids[1], ["a lawn"], [(LAWN, ["parsed"], None)]),
    ]
    monkeypatch.setattr("ramq.services.dataset_gathering._BLOCK", 1)
    assert everything(services, imported(services, file)) == together


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"origins": [None], "tags": ["dog"]}, "'origins' has None; give the origins of each tag as a list"),
        ({"origins": [5], "tags": ["dog"]}, "'origins' has 5"),
        ({"origins": [], "dropped": ["dog"], "reasons": ["because"]}, "'because' is no reason to drop a tag; give one"),
        ({"origins": [], "dropped": ["dog"], "reasons": [{}]}, "{} is no reason"),
        ({"origins": [], "dropped": ["dog"], "reasons": [None]}, "'reasons' has none for a tag in 'dropped'"),
        ({"tags": [{"name": [1]}]}, r"\[1\] is no tag; give its name as text, or its id"),
    ],
)
def test_an_odd_row_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text("\n".join(map(json.dumps, [{"uri": "a.jpg", "origins": []}, {"uri": "b.jpg", **row}])))
    with pytest.raises(UsageError, match=f"odd.jsonl, row 2: {message}"):
        list(read(file))


def test_an_odd_entry_of_an_official_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "odd.json"
    file.write_text('[{"image_path": "a.jpg"},\n{"image_path": "b.jpg", "union_label_id": [1e400]}]')
    with pytest.raises(UsageError, match=r"odd.json, entry 2 \(line 2\) is not of the official training: .*infinity"):
        list(read(file))


def test_unknown_origins_and_halves_of_characters_do_no_harm(
    services: Services, made_up: MadeUp, tmp_path: Path
) -> None:
    [first] = made_up.add(["x/a.jpg"], [[]])
    origins = ["evil,}", "given,generated", {}, "generated"]
    rows = [
        {"uri": "x/a.jpg", "captions": ["a", "b", "c", "d"], "caption_origins": origins, "origins": []},
        {"uri": "x/\ud800.jpg", "origins": []},
        {"uri": "x/\0.jpg", "origins": [], "tags": ["\udc00"]},
    ]
    file = tmp_path / "odd.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    again = imported(services, file)
    told = [(first, ["a", "b", "c", "d"], ["given", "given", "given", "generated"])]
    assert [(each[0], each[2], each[3]) for each in everything(services, again)] == told  # type: ignore[index]
    assert again.counts["left_out"] == {"unknown": 2}
    assert again.counts["left_out_names"] == ["x/\ufffd.jpg", "x/\ufffd.jpg"]


# What appears meanwhile --------------------------------------------------------------------------------------------


def test_what_appears_while_an_export_runs_is_never_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(*, may_replace: bool) -> None:
        with _folder(out, may_replace=may_replace) as folder:
            (folder / MARKER).touch()
            out.mkdir(exist_ok=True)
            (out / "thesis.txt").write_text("mine")

    with pytest.raises(UsageError, match="appeared while it was to be written; give another --out, or --force"):
        write(may_replace=False)
    with pytest.raises(UsageError, match="has other files than an export, which --force does not delete"):
        write(may_replace=True)
    file = tmp_path / "pets.csv"
    with pytest.raises(UsageError, match="appeared while it was to be written"), opened(file, may_replace=False):
        file.write_text("mine")
    assert (file.read_text(), (out / "thesis.txt").read_text()) == ("mine", "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pets.csv"], "nothing is left half written"
    (out / "thesis.txt").unlink()
    for may_replace in (False, True):  # an empty folder, and then an export
        with _folder(out, may_replace=may_replace) as folder:
            (folder / MARKER).write_text(str(may_replace))
    assert (out / MARKER).read_text() == "True"
    assert [path.name for path in out.iterdir()] == [MARKER]


def test_an_export_to_a_link_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(UsageError, match="link is a link, which an export would replace; give --out the path"):
        check("hf", None, tmp_path / "link", may_replace=True)
