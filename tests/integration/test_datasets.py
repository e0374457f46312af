"""Data sets: built from what is recognised, split without leaks, corrected, compared."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from ramq.cli.dataset import _local
from ramq.services.dataset_gathering import Gatherer, is_address
from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.datasets import gathering, items, labels, versions
from storage.errors import ConflictError, NotFoundError, UsageError
from tests.datasets import MadeUp, work, worker_of
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.versions import VersionView

pytestmark = pytest.mark.services

DOG, CAT, LAWN, TREE = range(4)
ARCHIVE = "file:///made-up"


@pytest.fixture
def made_up(engine: Engine) -> MadeUp:
    return MadeUp(engine, ["dog", "cat", "lawn", "tree"])


@pytest.fixture
def services(made_up: MadeUp, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), made_up.engine, None, is_reachable=False)


def build(services: Services, *sources: str, name: str = "pets", **more: object) -> VersionView:
    request = BuildRequest(sources=sources or (ARCHIVE,), **more)  # type: ignore[arg-type]
    return work(services, services.datasets.build(name, request))


def kept(services: Services, version: VersionView, image_id: int) -> dict[str, list[str]]:
    view = services.datasets.picture(version, image_id)
    return {each.name: each.origins for each in view.labels if each.reason is None}


def dropped(services: Services, version: VersionView, image_id: int) -> dict[str, str]:
    view = services.datasets.picture(version, image_id)
    return {each.name: each.reason for each in view.labels if each.reason is not None}


def test_a_label_says_where_it_is_from_and_why_it_was_dropped(services: Services, made_up: MadeUp) -> None:
    first, second = made_up.add(["a.jpg", "b.jpg"], [[DOG, LAWN], [CAT]], captions=["a dog beside a tree", None])
    services.corrections.tag([first], add=["dog"], remove=["lawn"])
    services.corrections.tag([second], add=["tree"], remove=["lawn"])
    version = build(services)
    assert version.state == "done"
    assert kept(services, version, first) == {"dog": ["given", "parsed", "corrected"], "tree": ["parsed"]}
    assert dropped(services, version, first) == {"lawn": "removed"}
    assert kept(services, version, second) == {"cat": ["given"], "tree": ["corrected"]}
    assert dropped(services, version, second) == {"lawn": "removed"}, "a later step must not add it"
    view = services.datasets.picture(version, first)
    assert view.captions == [{"caption": "a dog beside a tree", "origin": "generated"}]
    assert version.counts["images"] == 2
    assert version.counts["captions"] == {"generated": 1}
    assert version.counts["labels"] == {"corrected": 2, "given": 2, "parsed": 2}
    assert version.counts["dropped"] == {"removed": 2}
    assert (version.counts["kept"], version.counts["tags"], version.counts["without_labels"]) == (4, 3, 0)


def test_a_score_below_the_threshold_assigns_nothing(services: Services, made_up: MadeUp) -> None:
    [image] = made_up.add(["a.jpg"], [[DOG, CAT]])
    with made_up.engine.begin() as connection:
        connection.execute(text("UPDATE record SET scores = '{9000,5000}'"))
    assert kept(services, build(services), image) == {"dog": ["given"]}


def test_a_version_never_changes_and_the_next_one_has_what_people_said_since(
    services: Services, made_up: MadeUp
) -> None:
    first, second = made_up.add(["a.jpg", "b.jpg"], [[DOG], [CAT, LAWN]])
    one = build(services)
    with pytest.raises(UsageError, match="no correction changes version 1 of pets"):
        services.datasets.correct("pets")
    services.corrections.tag([first], add=["tree"])
    services.corrections.tag([second], remove=["lawn"])
    begun = services.datasets.correct("pets")
    assert begun.settings == {"present": 1, "removed": 1}
    two = work(services, begun)
    assert (two.number, two.parent, two.state) == (2, 1, "done")
    assert kept(services, two, first) == {"dog": ["given"], "tree": ["corrected"]}
    assert dropped(services, two, second) == {"lawn": "removed"}
    assert kept(services, one, first) == {"dog": ["given"]}
    found = services.datasets.compare("pets@1", "pets@2")
    assert {each.name: (each.added, each.removed) for each in found.tags} == {"tree": (1, 0), "lawn": (0, 1)}
    again = build(services, name="again")
    assert again.sha256 == two.sha256, "the same content has the same hash"
    assert services.datasets.find("pets@1").sha256 == one.sha256 != two.sha256


def test_copies_and_near_copies_are_in_one_split(services: Services, made_up: MadeUp) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, made_up.size)).astype(np.float32)
    vectors[200:300] = vectors[:100] + 0.02 * rng.standard_normal((100, made_up.size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    contents = [b"%032d" % n for n in range(300)]
    contents[100:150] = contents[:50]  # the same bytes, whose vectors may be anything
    ids = made_up.add([f"{n:03}.jpg" for n in range(300)], [[DOG]] * 300, vectors=vectors, contents=contents)
    version = build(services, validation=0.3)
    with unit_of_work(services.engine) as session:
        split = {
            each.image_id: (each.is_validation, each.group_id) for each in items.of_images(session, version.id, ids)
        }
    for one, other in [*zip(ids[:50], ids[100:150], strict=True), *zip(ids[:100], ids[200:], strict=True)]:
        assert split[one] == split[other]
    assert 30 <= version.counts["validation"] <= 160
    assert version.counts["groups"] >= 100
    assert build(services, name="others", validation=0.3).sha256 == version.sha256, "it is always the same"


def test_pictures_keep_their_split_and_a_group_that_joins_both_is_for_validation(
    services: Services, made_up: MadeUp
) -> None:
    eye = np.eye(made_up.size, dtype=np.float32)
    ids = made_up.add([f"{n}.jpg" for n in range(10)], [[DOG]] * 10, vectors=eye[:10])
    one = build(services, validation=0.5)
    with unit_of_work(services.engine) as session:
        before = {each.image_id: each.is_validation for each in items.of_images(session, one.id, ids)}
    training = [image_id for image_id in ids if not before[image_id]]
    validating = [image_id for image_id in ids if before[image_id]]
    assert training
    assert validating
    between = eye[ids.index(training[0])] + eye[ids.index(validating[0])]
    [link] = made_up.add(["link.jpg"], [[DOG]], vectors=between[np.newaxis] / np.linalg.norm(between))
    two = build(services, validation=0.5, near=0.7)
    with unit_of_work(services.engine) as session:
        after = {each.image_id: each.is_validation for each in items.of_images(session, two.id, [*ids, link])}
    assert after == {**before, training[0]: True, link: True}


def test_a_worker_that_ends_in_the_middle_changes_nothing(services: Services, made_up: MadeUp) -> None:
    made_up.add([f"{n:04}.jpg" for n in range(2500)], [[n % 4] for n in range(2500)])
    whole = build(services, name="whole")
    begun = services.datasets.build("broken", BuildRequest(sources=(ARCHIVE,)))
    worker, steps = worker_of(services, "ends"), 0

    def stops() -> bool:
        nonlocal steps
        steps += 1
        return steps > 1

    worker.step(stops)
    with services.engine.begin() as connection:  # another one took a task, and ended without a word
        connection.execute(
            text(
                """UPDATE dataset_task SET state = 'leased', owner = 'gone', epoch = epoch + 1,
                   lease_until = now() - interval '1 second' WHERE state = 'ready' AND version_id = :id"""
            ),
            {"id": begun.id},
        )
    broken = work(services, begun)
    assert broken.sha256 == whole.sha256
    assert broken.counts["images"] == 2500


def test_what_is_not_recognised_is_counted_and_named(services: Services, made_up: MadeUp, tmp_path: Path) -> None:
    made_up.add(["a.jpg", "b.jpg"], [[DOG], [CAT]])
    with made_up.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO image (archive_id, key, version, size) VALUES (:id, 'new.jpg', 'v', 1)"),
            {"id": made_up.archive_id},
        )
    manifest = tmp_path / "list.jsonl"
    rows = ["/made-up/a.jpg", "/made-up/new.jpg", "/made-up/nothing.jpg"]
    manifest.write_text("".join(f'{{"path": "{row}", "caption": "a cat"}}\n' for row in rows))
    version = build(services, str(manifest))
    assert version.counts["left_out"] == {"not_recognised": 1, "unknown": 1}
    assert version.counts["left_out_names"] == ["new.jpg", "nothing.jpg"]
    assert version.counts["captions"] == {"given": 1}
    whole = build(services, name="all")
    assert (whole.counts["left_out"], whole.counts["left_out_names"]) == ({"not_recognised": 1}, ["new.jpg"])
    with pytest.raises(NotFoundError, match="`ramq enqueue /elsewhere`"):
        build(services, "/elsewhere", name="none")
    with pytest.raises(UsageError, match="no recognised image matches 'prefix:zz'"):
        build(services, "prefix:zz", name="none")
    assert [view.name for view in services.datasets.list()] == ["all", "pets"], "nothing is left of what failed"


def test_captions_of_a_file_are_matched_by_uri_key_path_and_stem(
    services: Services, made_up: MadeUp, tmp_path: Path
) -> None:
    ids = made_up.add(["x/a.jpg", "x/b.jpg", "x/c.jpg", "x/d.jpg"], [[], [], [], []])
    with services.engine.begin() as connection:  # files beside a picture were listed once
        connection.execute(
            text(
                """INSERT INTO image (archive_id, key, version, size, missing_since)
                   SELECT min(id), 'x/d.' || ending, 'v', 1, now() FROM archive, unnest('{txt,json}'::text[]) AS ending
                   GROUP BY ending"""
            )
        )
    file = tmp_path / "captions.csv"
    file.write_text("url,TEXT\nfile:///made-up/x/a.jpg,a dog\nx/b.jpg,a cat\nc.jpg,a lawn\nd,a tree\ne.jpg,a dog\n")
    version = build(services, f"{ARCHIVE}/x", captions=str(file))
    assert [[*kept(services, version, image_id)] for image_id in ids] == [["dog"], ["cat"], ["lawn"], ["tree"]]
    assert version.counts["left_out"] == {"caption_unmatched": 1}
    assert version.counts["left_out_names"] == ["e.jpg"]
    file.write_text("url,words\nx/a.jpg,a cat\n")
    other = build(services, captions=str(file), caption_column="words", name="other")
    assert kept(services, other, ids[0]) == {"cat": ["parsed"]}
    with pytest.raises(UsageError, match="no column 'wrods'"):
        build(services, captions=str(file), caption_column="wrods", name="third")


def test_steps_are_paused_cancelled_and_deleted(services: Services, made_up: MadeUp) -> None:
    made_up.add(["a.jpg"], [[DOG]])
    services.datasets.build("pets", BuildRequest(sources=(ARCHIVE,)))
    assert services.datasets.steer("pets", "pause").state == "paused"
    with pytest.raises(ConflictError, match="version 1 of pets \\(build\\) is paused"):
        services.datasets.build("pets", BuildRequest(sources=(ARCHIVE,)))
    with pytest.raises(ConflictError, match="cancel it first"):
        services.datasets.delete("pets")
    assert services.datasets.steer("pets", "cancel").state == "cancelled"
    with pytest.raises(NotFoundError, match="no version of pets is done yet"):
        services.datasets.find("pets")
    assert services.datasets.delete("pets") == 1
    with pytest.raises(NotFoundError, match="there is no data set 'pets'"):
        services.datasets.versions("pets")


def test_a_step_whose_command_ended_fails_instead_of_waiting_for_ever(services: Services, made_up: MadeUp) -> None:
    made_up.add(["a.jpg"], [[DOG]])
    begun = services.datasets.begin_build("pets", BuildRequest(sources=(ARCHIVE,)))
    assert work(services, begun).note == "the sources are being read: 0 pictures so far"
    with services.engine.begin() as connection:
        connection.execute(text("UPDATE dataset_version SET counts = '{\"heard_at\": 0}'"))
    failed = work(services, begun)
    assert failed.state == "failed"
    assert "ended before it was done" in (failed.note or "")


def test_labels_are_merged_and_copied(services: Services, made_up: MadeUp) -> None:
    first, second = made_up.add(["a.jpg", "b.jpg"], [[DOG], [CAT]])
    version = build(services)
    with unit_of_work(services.engine) as session:
        labels.put(session, version.id, [labels.Label(first, DOG, ["given"], "outlier", 0.5, {"cluster": 1})])
        labels.merge(
            session, version.id, [labels.Label(first, DOG, ["generated"]), labels.Label(second, DOG, ["parsed"])]
        )
        assert labels.of_images(session, version.id, [first]) == {
            first: [labels.Label(first, DOG, ["given", "generated"], "outlier", 0.5, {"cluster": 1})]
        }
        assert [each.image_id for each in labels.of_tag(session, version.id, DOG, is_dropped=False)] == [second]
        assert [each.image_id for each in labels.of_tag(session, version.id, DOG, is_dropped=True)] == [first]
        counted = {each.tag_id: (each.kept, each.dropped) for each in labels.tag_counts(session, version.id)}
        assert counted == {CAT: (1, {}), DOG: (1, {"outlier": 1})}
        assert items.after(session, version.id, first)[0].image_id == second


def test_of_two_tags_with_one_name_only_the_one_that_was_assigned_is_taken(engine: Engine, tmp_path: Path) -> None:
    made_up = MadeUp(engine, ["crane", "lawn", "crane"])
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    bird, machine = made_up.add(["a.jpg", "b.jpg"], [[0], [2]])
    build(services)
    version = work(services, services.dataset_steps.generate("pets", captioner="none"))
    with unit_of_work(engine) as session:
        found = labels.of_images(session, version.id, [bird, machine])
    assert {image_id: [label.tag_id for label in each] for image_id, each in found.items()} == {bird: [0], machine: [2]}
    assert version.counts["generated"]["added"] == {}


def test_a_step_whose_sources_are_read_is_not_paused_and_says_how_far_it_is(
    services: Services, made_up: MadeUp
) -> None:
    made_up.add(["a.jpg"], [[DOG]])
    begun = services.datasets.begin_build("pets", BuildRequest(sources=(ARCHIVE,)))
    for action in ("pause", "resume"):
        with pytest.raises(ConflictError, match="sources of pets are being read; wait, or cancel it: `ramq dataset c"):
            services.datasets.steer("pets", action)  # type: ignore[arg-type]
    with unit_of_work(services.engine) as session:
        gathering.hear(session, begun.id, 12_000)
    assert work(services, begun).note == "the sources are being read: 12,000 pictures so far"
    with unit_of_work(services.engine) as session:
        versions.fail(session, begun.id, "no")
    with pytest.raises(ConflictError, match="not all sources of pets were read; cancel it"):
        services.datasets.steer("pets", "resume")
    with pytest.raises(ConflictError, match="is failed; `ramq dataset cancel pets`, then begin this again"):
        build(services)
    assert services.datasets.steer("pets", "cancel").state == "cancelled"


def test_a_source_that_takes_long_gives_signs_of_life(
    services: Services, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.add(["a.jpg"], [[DOG]])
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", 0.4)
    heard = threading.Event()

    def hear(session: Session, version_id: int, pictures: int = 0) -> None:
        said(session, version_id, pictures)
        if threading.current_thread().name == "dataset-sources":
            heard.set()

    said = gathering.hear
    monkeypatch.setattr(gathering, "hear", hear)
    # A source of which nothing comes until somebody gave a sign of life in its place.
    monkeypatch.setattr(Gatherer, "add_sidecars", lambda _self: heard.wait(60))
    assert build(services).state == "done"
    assert heard.is_set()


def test_a_fault_while_sources_are_read_fails_the_version_at_once(
    services: Services, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.add(["a.jpg"], [[DOG]])
    request = BuildRequest(sources=(ARCHIVE,))
    begun = services.datasets.begin_build("pets", request)

    def broken(_self: Gatherer) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Gatherer, "add_sidecars", broken)
    with pytest.raises(ZeroDivisionError):
        services.datasets.gather_or_fail(begun, request)
    failed = services.datasets.get(begun.id)
    assert failed.state == "failed"
    assert failed.note == (
        "the sources cannot be read (ZeroDivisionError): the server's log says more; cancel it, and build it again"
    )


def test_a_name_is_a_folder_only_where_a_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dog").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_address("dog"), "a search, whatever folders are beside the server"
    assert _local("dog") == str(tmp_path / "dog")
    assert [_local(each) for each in ("7", "tag:dog", "s3://dog")] == ["7", "tag:dog", "s3://dog"]


def test_what_is_listed_of_a_version_was_counted_when_it_was_done(
    services: Services, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = made_up.add(["a.jpg", "b.jpg"], [[DOG, LAWN], [DOG]])
    services.corrections.tag([first], remove=["lawn"])
    version = build(services)
    with unit_of_work(services.engine) as session:
        counted = labels.tag_counts(session, version.id)

    def count(*_: object) -> None:
        raise AssertionError("the labels of a whole version are counted again")

    monkeypatch.setattr(labels, "tag_counts", count)
    found = services.datasets.tags(version)
    assert [(each.tag_id, each.kept, each.dropped, each.origins) for each in found] == [
        (each.tag_id, each.kept, each.dropped, each.origins) for each in counted
    ]
    assert [(each.name, each.kept, each.dropped) for each in found] == [("dog", 2, {}), ("lawn", 0, {"removed": 1})]


def test_erasing_an_image_forgets_every_name_that_files_had_for_it(services: Services, made_up: MadeUp) -> None:
    ids = made_up.add(["x/a.jpg", "x/b.jpg"], [[DOG], [DOG]])
    version = build(services)
    told = [f"{ARCHIVE}/x/a.jpg", "/made-up/x/a.jpg", "x/a.jpg", "a.jpg", "./a.jpg", "x/a", "a", "b.jpg", "aa.jpg"]
    with unit_of_work(services.engine) as session:
        versions.add_counts(session, version.id, {"left_out_names": told})
    services.erasures.delete([str(ids[0])])
    assert services.datasets.get(version.id).counts["left_out_names"] == ["b.jpg", "aa.jpg"]
    assert services.datasets.deleted(version) == 1
