"""The step ``clean``: wrong labels that a test planted are dropped for the right reason, others are not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.lite.network import SIZES
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.datasets import items, tasks, versions
from storage.datasets.labels import Label
from storage.errors import UsageError
from tests import crop_archive
from tests.datasets import work
from tests.engine_archive import NAME, finish, stored_items, stored_labels, until, view, write_version
from tests.services.coloured import BOX, GREEN, RED, ColourLocator, colour_worker, write_coloured
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.datasets.versions import VersionView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

SCENE = 3
COUNTS = {"red": 16, "green": 14, "purple": 1, "grey": 2}
SHARE = 0.25


@pytest.fixture
def locator() -> ColourLocator:
    return ColourLocator()


@pytest.fixture
def worker(services: Services, monkeypatch: pytest.MonkeyPatch, locator: ColourLocator) -> Iterator[Worker]:
    with colour_worker(services, monkeypatch, locator) as worker:
        yield worker


@pytest.fixture
def coloured(services: Services, worker: Worker, tmp_path: Path) -> Services:
    """Services with recognised pictures of one colour each."""
    source = write_coloured(tmp_path / "coloured", COUNTS)
    assert crop_archive.work(services, worker, services.jobs.create(str(source))).done == sum(COUNTS.values())
    return services


def keys(services: Services) -> dict[str, int]:
    """The images, by key without extension."""
    with unit_of_work(services.engine) as session:
        return {row.key.removesuffix(".png"): row.id for row in session.execute(text("SELECT id, key FROM image"))}


def plant(services: Services) -> tuple[VersionView, dict[str, int]]:
    """Write a version whose labels are right, but for some.

    Two green pictures are called red, two others too, which a person has confirmed; so are all purple and grey ones. A
    person removed red from one, and the scene is no thing.
    """
    ids = keys(services)
    reds = [name for name in ids if name.startswith(("red", "purple", "grey"))] + ["green-00", "green-01", "green-02"]
    given = [Label(ids[name], RED, ["given"]) for name in reds]
    given += [Label(ids["green-03"], RED, ["given", "corrected"]), Label(ids["green-04"], RED, ["given"], "removed")]
    given += [Label(ids[name], GREEN, ["generated"], None, 0.9, {"score": 0.9}) for name in ids if "green" in name]
    given += [Label(image_id, SCENE, ["parsed"]) for image_id in ids.values()]
    services.policies.put(f"tag {SCENE}", "no_thing")
    services.corrections.tag([ids["green-02"]], add=[f"tag {RED}"])
    return write_version(services, given), ids


def test_planted_labels_are_dropped_for_the_right_reason(
    coloured: Services, worker: Worker, locator: ColourLocator
) -> None:
    parent, ids = plant(coloured)
    step = coloured.dataset_steps.clean(NAME, regions="located", outlier_share=SHARE)
    made = finish(coloured, worker, step)
    assert (made.state, made.note) == ("done", None)
    assert [coloured.jobs.get(job_id).stage for job_id in made.job_ids] == ["locate", "crops"]
    before, after = stored_labels(coloured, parent), stored_labels(coloured, made)
    assert set(before) == set(after)
    assert stored_items(coloured, parent) == stored_items(coloured, made)
    dropped = {name: after[ids[name], RED].reason for name in ids if (ids[name], RED) in after}
    assert {name: reason for name, reason in dropped.items() if reason} == {
        "green-00": "contradicted",
        "green-01": "contradicted",
        "green-04": "removed",
        "purple-00": "outlier",
        "grey-00": "no_region",
        "grey-01": "no_region",
    }
    assert locator.asked == {f"tag {RED}", f"tag {GREEN}"}, "what is no thing is not looked for"
    assert all(after[image_id, SCENE] == before[image_id, SCENE] for image_id in ids.values())
    assert {after[ids[name], RED].certainty for name in ("green-02", "green-03")} == {1}, "people are sure"
    evidence = after[ids["purple-00"], RED].evidence
    assert evidence is not None
    assert (evidence["region"], evidence["box"], evidence["cluster"]) == (1, list(BOX), 0)
    assert evidence["rank"] > 1 - SHARE
    kept = next(label for (_, tag), label in after.items() if tag == GREEN and label.reason is None)
    assert kept.evidence is not None
    assert (kept.evidence["score"], kept.evidence["seen"]) == (0.9, 0.9)
    red, green, scene = (
        next(each for each in coloured.dataset_steps.cleaned_tags(NAME) if each["tag"] == tag)
        for tag in (RED, GREEN, SCENE)
    )
    low = finish(coloured, worker, coloured.dataset_steps.clean(f"{NAME}@1", regions="located", threshold=0.01))
    assert stored_labels(coloured, low)[ids["green-00"], RED].reason == "contradicted"
    assert (red["labels"], red["kept"], red["already_dropped"], red["confirmed_by_people"]) == (23, 18, 1, 2)
    assert red["dropped"] == {"contradicted": 2, "no_region": 2, "outlier": 1}
    assert (red["regions"], red["asked"], red["clusters"], red["skipped"]) == (21, 21, 1, None)
    assert green["kept"] + sum(green["dropped"].values()) == green["labels"] == COUNTS["green"]
    assert (scene["skipped"], scene["kept"], scene["not_looked_at"]) == ("no_thing", len(ids), len(ids))
    total = made.counts["cleaned"]
    assert total["labels"] == total["kept"] + sum(total["dropped"].values())
    assert total["skipped"] == {"no_thing": 1}
    assert made.counts["kept"] == total["kept"]
    assert sum(made.counts["dropped"].values()) == sum(total["dropped"].values()) + total["already_dropped"]
    assert {each["image_id"] for each in red["typical"]} <= {ids[name] for name in ids if name.startswith("red")} | {
        ids["purple-00"],
        *(ids[f"green-0{n}"] for n in range(4)),
    }


def test_what_was_done_is_not_done_again_and_gives_the_same(coloured: Services, worker: Worker) -> None:
    plant(coloured)
    first = finish(coloured, worker, coloured.dataset_steps.clean(NAME, regions="located"))
    again = finish(coloured, worker, coloured.dataset_steps.clean(f"{NAME}@1", regions="located"))
    assert [coloured.jobs.get(job_id).done for job_id in again.job_ids] == [0, 0]
    assert [coloured.jobs.get(job_id).skipped for job_id in again.job_ids] == [sum(COUNTS.values())] * 2
    assert again.sha256 == first.sha256
    kept = finish(coloured, worker, coloured.dataset_steps.clean(f"{NAME}@1", regions="located", no_region="keep"))
    assert kept.counts["dropped"] == {
        reason: count for reason, count in first.counts["dropped"].items() if reason != "no_region"
    }


def test_a_region_of_a_kind_is_one_of_the_more_general_tag(
    coloured: Services, worker: Worker, locator: ColourLocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tag and a more general one at the same place, a locator keeps only the region of the former."""
    monkeypatch.setattr("workers.datasets.regions_of_tag.kinds_of", lambda name: {"tag 2": ("tag 1",)}.get(name, ()))
    locator.finds_only = "tag 1"
    ids = keys(coloured)
    given = [Label(ids[name], tag, ["given"]) for name in ids if name[:3] in {"red", "gre"} for tag in (RED, GREEN)]
    write_version(coloured, given)
    step = coloured.dataset_steps.clean(NAME, regions="located", contradiction=False, outlier_share=0.0)
    made = finish(coloured, worker, step)
    grey = {ids["grey-00"], ids["grey-01"]}
    for (image_id, _), label in stored_labels(coloured, made).items():
        assert label.reason == ("no_region" if image_id in grey else None)


def test_a_picture_that_could_not_be_located_keeps_its_tags(coloured: Services, worker: Worker, tmp_path: Path) -> None:
    _, ids = plant(coloured)
    (tmp_path / "coloured" / "grey-00.png").write_bytes(b"no picture at all")
    made = finish(coloured, worker, coloured.dataset_steps.clean(NAME, regions="located"))
    found = stored_labels(coloured, made)
    assert found[ids["grey-00"], RED].reason is None, "nobody has looked"
    assert found[ids["grey-01"], RED].reason == "no_region"
    [red] = [each for each in coloured.dataset_steps.cleaned_tags(NAME) if each["tag"] == RED]
    assert red["not_looked_at"] == 1


def test_whole_pictures_are_cleaned_without_a_detector(coloured: Services, worker: Worker) -> None:
    _, ids = plant(coloured)
    made = finish(coloured, worker, coloured.dataset_steps.clean(NAME, outlier_share=0.0, threshold=0.95))
    assert (made.settings["cleaning"]["regions"], made.job_ids) == ("whole", [])
    found = stored_labels(coloured, made)
    reasons = {name: found[ids[name], RED].reason for name in ids if (ids[name], RED) in found}
    assert {name for name, reason in reasons.items() if reason == "contradicted"} >= {"green-00", "green-01"}
    assert not any(reason for name, reason in reasons.items() if name.startswith("red"))
    assert reasons["green-03"] is None


def test_a_step_that_is_paused_in_the_middle_goes_on(coloured: Services, worker: Worker) -> None:
    plant(coloured)
    calm = finish(coloured, worker, coloured.dataset_steps.clean(NAME, regions="located"))
    step = coloured.dataset_steps.clean(f"{NAME}@1", regions="located")
    seen = until(coloured, worker, step, lambda each: each.phase == "locate" and bool(each.job_ids))
    with unit_of_work(coloured.engine) as session:
        versions.steer(session, step.id, to="paused", allowed=("running",))
    worker._build_datasets()
    assert view(coloured, step).phase == seen.phase
    with unit_of_work(coloured.engine) as session:
        versions.steer(session, step.id, to="running", allowed=("paused",))
    assert finish(coloured, worker, step).sha256 == calm.sha256


def test_two_workers_share_the_tags(
    coloured: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch, locator: ColourLocator
) -> None:
    plant(coloured)
    alone = finish(coloured, worker, coloured.dataset_steps.clean(NAME, regions="located"))
    monkeypatch.setattr("workers.datasets.builder.STEP_SECONDS", 0.001)
    step = coloured.dataset_steps.clean(f"{NAME}@1", regions="located")
    with colour_worker(coloured, monkeypatch, locator) as other:
        while view(coloured, step).state == "running":
            for each in (worker, other):
                each._datasets.step(lambda: False)
                each._list()
                each.work()
    assert view(coloured, step).sha256 == alone.sha256
    with unit_of_work(coloured.engine) as session:
        epochs = session.scalars(
            text("SELECT epoch FROM dataset_task WHERE version_id = :id AND phase = 'cluster'"), {"id": step.id}
        ).all()
    assert Counter(epochs) == {1: 3}


def test_settings_are_checked_and_stored_under_the_names_of_the_paper(coloured: Services) -> None:
    plant(coloured)
    for wrong, message in (
        ({"outlier_share": 0.9}, "outlier_share"),
        ({"regions": "half"}, "regions"),
        ({"detector": "yolo"}, "unknown model 'yolo' of locate"),
        ({"regions": "whole", "no_region": "keep"}, "no_region would do nothing: regions are whole"),
        ({"detector": "grounding-dino-tiny", "several_regions": "any"}, "several_regions would do nothing: no worker"),
    ):
        with pytest.raises(UsageError, match=message):
            coloured.dataset_steps.clean(NAME, **wrong)  # type: ignore[arg-type]  # that is what is tested
    step = coloured.dataset_steps.clean(NAME, regions="located", clusters=4)
    assert step.settings["cleaning"]["clusters"] == 4
    assert step.settings["cleaning"]["outlier_share"] == 0.1
    assert (step.settings["detector"], step.settings["recogniser"]) == ("grounding-dino-tiny", "lite")


def test_photographs_are_compared_by_what_lite_keeps_of_them(recognised_engine: Engine, stage: Path) -> None:
    """A tag that all photographs are said to have, and that is right for one."""
    services = Services(settings_for(stage / "data"), recognised_engine, None, is_reachable=False)
    with unit_of_work(recognised_engine) as session:
        ids = list(session.scalars(text("SELECT image_id FROM record ORDER BY image_id")))
    write_version(services, [Label(image_id, 285, ["given"]) for image_id in ids])
    made = work(services, services.dataset_steps.clean(NAME, clusters=1, contradiction=False))
    assert (made.state, made.note, made.job_ids) == ("done", None, [])
    with unit_of_work(recognised_engine) as session:
        [scale] = tasks.results(session, made.id, "scale")
        parent_id = made.parent_id
        assert parent_id is not None
        samples = [items.sample(session, parent_id, 3, seed) for seed in (1, 1, 2, 3, 4)]
    assert set(scale["sample"]) >= set(ids)
    assert samples[0] == samples[1] == sorted(samples[0])
    assert len({tuple(each) for each in samples}) > 1
    assert (scale["kind"], scale["rows"], len(scale["scale"]["mean"])) == ("kept", len(ids), sum(SIZES))
    [tag] = services.dataset_steps.cleaned_tags(NAME)
    assert (tag["regions"], tag["labels"], tag["not_looked_at"]) == (len(ids), len(ids), 0)
    assert tag["dropped"] == {"outlier": len(ids) // 10}
    dropped = [label for label in stored_labels(services, made).values() if label.reason]
    assert all(label.evidence is not None and label.evidence["rank"] >= 0.9 for label in dropped)


def test_a_picture_whose_features_are_damaged_is_not_looked_at(recognised_engine: Engine, stage: Path) -> None:
    services = Services(settings_for(stage / "data"), recognised_engine, None, is_reachable=False)
    with unit_of_work(recognised_engine) as session:
        ids = list(session.scalars(text("SELECT image_id FROM record ORDER BY image_id")))
        # The first picture alone is in a file that is gone.
        session.execute(
            text(
                """WITH gone AS (INSERT INTO feature_file (generation_id, kind, name, rows, size_bytes)
                       SELECT generation_id, kind, 'features/generation-1/gone-1.npy', 1, 1 FROM feature_file LIMIT 1
                       RETURNING id)
                   UPDATE feature SET file_id = gone.id, position = 0 FROM gone WHERE image_id = :id"""
            ),
            {"id": ids[0]},
        )
    write_version(services, [Label(image_id, 285, ["given"]) for image_id in ids])
    made = work(services, services.dataset_steps.clean(NAME, clusters=1, contradiction=False))
    assert (made.state, made.note) == ("done", None)
    [tag] = services.dataset_steps.cleaned_tags(NAME)
    assert (tag["regions"], tag["not_looked_at"]) == (len(ids) - 1, 1)
    label = stored_labels(services, made)[ids[0], 285]
    assert (label.reason, label.certainty) == (None, None)


def test_labels_of_a_tag_are_written_in_pages_that_hold_the_task(
    coloured: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(coloured)
    whole = finish(coloured, worker, coloured.dataset_steps.clean(NAME, outlier_share=0.0))
    monkeypatch.setattr("workers.datasets.cluster.PAGE", 5)
    held = []
    own = tasks.hold
    monkeypatch.setattr(tasks, "hold", lambda session, task: (held.append(task.phase), own(session, task)))
    again = finish(coloured, worker, coloured.dataset_steps.clean(f"{NAME}@1", outlier_share=0.0))
    assert again.sha256 == whole.sha256
    assert held.count("cluster") > sum(COUNTS.values()) // 5
