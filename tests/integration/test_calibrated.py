"""Thresholds found by an evaluation, used by a worker: from pictures to what search finds."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.modeling.tiny import write_tiny_models
from ram_core.vocabulary_file import read_vocabulary
from ramq.demo_photos import installed_photographs
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.recognised import CAT, make_worker, recognise, settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.ledger.views import JobView

pytestmark = pytest.mark.services

SHOWN = {"chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "flower.jpg", "gravel.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photograph in installed_photographs():
        if photograph.name in SHOWN:
            shutil.copy(photograph, folder)
    return folder


def run(services: Services, job: JobView) -> JobView:
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker.leave()
    return services.jobs.get(job.id)


def scores_of(services: Services, generation_id: int) -> list[tuple[object, ...]]:
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text("SELECT image_id, tags, scores FROM record WHERE generation_id = :id ORDER BY 1"),
            {"id": generation_id},
        )
        return [tuple(row) for row in rows]


def test_a_worker_assigns_by_calibrated_thresholds(engine: Engine, folder: Path, tmp_path: Path) -> None:
    rows = [{"image": name, "tags": [CAT] if name == "chelsea.png" else []} for name in sorted(SHOWN)]
    rows += [{"image": "chelsea.png", "tags": [CAT]}] * 9  # the same cat again: enough images
    (folder / "cats.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    services = Services(settings_for(tmp_path / "data", captioner="template"), engine, None, is_reachable=False)
    done = run_here(
        (
            "evaluate",
            "lite",
            "--dataset",
            str(folder / "cats.jsonl"),
            "--calibrate",
            "0.9",
            "--out",
            str(tmp_path / "out"),
        ),
        {"RAMQ_DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 0, done.stderr
    file = tmp_path / "out/lite-calibrated.jsonl"
    assert str(file) in done.stderr
    new = read_vocabulary(file)
    (cat,) = new.resolve(CAT)

    recognise(services, str(folder))
    services.vocabularies.add(file)
    job = run(services, services.jobs.create(str(folder), vocabulary="lite-calibrated"))
    assert (job.state, job.vocabulary, job.generation_id) == ("done", "lite-calibrated", 2)
    assert scores_of(services, 2) == scores_of(services, 1), "the scores are those of the model's own tags"
    stored = services.vocabularies.show("lite-calibrated")[1]
    assert [tag.threshold for tag in stored] == pytest.approx(new.thresholds.tolist())
    services.generations.use(2)
    [hit] = services.search.page(SearchQuery(tags=(CAT,))).items
    [score] = [tag.score for tag in hit.tags if tag.id == cat]
    assert score > new.thresholds[cat]
    assert hit.caption is not None
    assert "photograph" in hit.caption, "captions are composed as for the model's own tags"
    # With a threshold above its score, the same picture has the tag no more.
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines[cat]["threshold"] = round(min(1.0, score + 0.001), 4)
    (tmp_path / "strict.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    services.vocabularies.add(tmp_path / "strict.jsonl")
    strict = run(services, services.jobs.create(str(folder), vocabulary="strict"))
    services.generations.use(strict.generation_id or 0)
    assert not services.search.page(SearchQuery(tags=(CAT,))).items


def test_lite_must_see_images_again_for_its_own_tags(engine: Engine, folder: Path, tmp_path: Path) -> None:
    from ram_core.registry import load_vocabulary  # noqa: PLC0415
    from ram_core.vocabulary_file import write_vocabulary  # noqa: PLC0415

    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    recognise(services, str(folder))
    write_vocabulary(tmp_path / "strict.jsonl", load_vocabulary("lite").with_thresholds({0: 0.9}))
    services.vocabularies.add(tmp_path / "strict.jsonl")
    [job] = services.jobs.retag("strict")
    ended = run(services, job)
    assert ended.state == "failed"
    assert "ramq enqueue SOURCE --vocabulary strict" in (ended.note or "")


def test_ram_takes_calibrated_thresholds_from_kept_tokens_alone(engine: Engine, folder: Path, tmp_path: Path) -> None:
    from ram_core.registry import load_vocabulary  # noqa: PLC0415
    from ram_core.vocabulary_file import write_vocabulary  # noqa: PLC0415

    write_tiny_models("ram_plus", tmp_path / "models")  # no CLIP: its text encoder is not needed
    settings = settings_for(
        tmp_path / "data", models_dir=tmp_path / "models", model="ram_plus", features="tokens", captioner="none"
    )
    services = Services(settings, engine, None, is_reachable=False)
    recognise(services, str(folder))
    shutil.rmtree(folder)
    own = load_vocabulary("ram_plus", tmp_path / "models")
    write_vocabulary(tmp_path / "strict.jsonl", own.with_thresholds({0: 0.9, 1: 0.4}))
    services.vocabularies.add(tmp_path / "strict.jsonl")
    [job] = services.jobs.retag("strict")
    ended = run(services, job)
    assert (ended.state, ended.failed) == ("done", 0), ended.note
    for (image, tags, scores), (same, new_tags, new_scores) in zip(
        scores_of(services, 1), scores_of(services, 2), strict=True
    ):
        assert image == same
        common = dict(zip(tags, scores, strict=True)), dict(zip(new_tags, new_scores, strict=True))  # type: ignore[call-overload]
        shared = common[0].keys() & common[1].keys()
        assert len(shared) >= 0.9 * len(common[0])
        assert all(abs(common[0][tag] - common[1][tag]) < 300 for tag in shared)
