"""Spaces of towers: several in one archive, each with its own generation, index and erasure."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from sqlalchemy import text

from ram_core.spaces import load_image_encoder
from ram_core.spaces.tiny import write_tiny_tower
from ramq.cli.erase import tell_done
from ramq.services.index import make_builder
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.index.garbage import collect_garbage
from storage.index.selection import Selection
from storage.objects.folder import FolderStore
from storage.results import generations, looks
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.null_worker import load_null
from tests.services.recognised import make_worker
from tests.services.spaces import FURTHER, make_space, space_models
from tests.services.statements import statements_on, undisturbed
from workers.pipeline import model_holder
from workers.pipeline.decoders import Decoders

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def serving(ramq: Services, space: str) -> int:
    with unit_of_work(ramq.engine) as session:
        found = generations.default(session, space)
        assert found is not None
        return found.id


def delta(ramq: Services, space: str) -> int:
    """Return how many vectors of a space are in no segment yet."""
    [status] = [one for one in ramq.index.status() if one.stage == space]
    return status.delta


def stored(ramq: Services, generation_id: int) -> dict[int, bytes]:
    with unit_of_work(ramq.engine) as session:
        rows = session.execute(
            text("SELECT image_id, v FROM look WHERE generation_id = :id ORDER BY 1"), {"id": generation_id}
        )
        return {row.image_id: row.v for row in rows}


def test_each_space_has_its_own_vectors_and_index(ramq: Services, worker: Worker) -> None:
    keys = {hit.image_id: hit.key for hit in ramq.search.page(SearchQuery(limit=100)).items}
    for space in SPACES:
        assert make_space(ramq, worker, space).done == len(keys)
    assert make_space(ramq, worker, "dino").done == 0
    own = {space: serving(ramq, space) for space in SPACES}
    assert len(set(own.values())) == len(SPACES)
    assert {one.stage: one.model for one in ramq.stages.generations() if one.stage in own} == {
        "look": "lite",
        **FURTHER,
    }
    [archive] = ramq.archives.names()
    folder = archive.uri.removeprefix("file://")
    builder = make_builder(ramq.settings, ramq.engine)
    for space, model in FURTHER.items():
        encoder = load_image_encoder(model, models_dir=ramq.settings.models_path)
        pixels = []
        for key in keys.values():
            with Image.open(f"{folder}/{key}") as image:
                pixels.append(encoder.preprocessing(image))
        expected = dict(zip(keys, encoder.encode(np.stack(pixels)), strict=True))
        with unit_of_work(ramq.engine) as session:
            for image_id, vector in expected.items():
                found = looks.vector_of(session, own[space], image_id)
                assert found is not None
                assert float(found @ vector) > 0.99
        assert delta(ramq, space) == len(keys)
        for publish in (lambda number: builder.publish_new(number, force=True), builder.rebuild):
            assert publish(own[space]) is not None
            assert builder.verify(own[space]) == []
            assert delta(ramq, space) == 0
            with unit_of_work(ramq.engine) as session:
                view = ramq.index.reader().view(session, own[space])
                assert Selection.of(view, None).ids().tolist() == sorted(keys)


def test_one_model_may_serve_two_spaces(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "dino")
    make_space(ramq, worker, "look", FURTHER["dino"])
    dino, look = (stored(ramq, serving(ramq, space)) for space in ("dino", "look"))
    assert dino.keys() == look.keys()
    # Batches of another size may round the last bit otherwise.
    for image_id, vector in dino.items():
        np.testing.assert_allclose(np.frombuffer(vector, "<f2"), np.frombuffer(look[image_id], "<f2"), atol=1e-3)
    assert serving(ramq, "dino") != serving(ramq, "look")


def test_erasing_reaches_every_space(ramq: Services, worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    for space in ("look", "siglip"):
        make_space(ramq, worker, space)
    builder = make_builder(ramq.settings, ramq.engine)
    for space in ("look", "siglip"):
        builder.publish_new(serving(ramq, space), force=True)
    images = list(stored(ramq, serving(ramq, "siglip")))
    report = ramq.erasures.delete(images[:1], by="local")
    assert report.looks == 2
    tell_done(report, as_json=False)
    told = capsys.readouterr().err
    assert "1 record, 1 vector, 2 vectors of further spaces, the features of 1 image, 0 failures," in told
    for space in ("look", "siglip"):
        assert list(stored(ramq, serving(ramq, space))) == images[1:]
    assert not ramq.erasures.verify(report.deletion_id).is_clean
    for each in ramq.index.generations():
        builder.compact(each, purge=True)
    collect_garbage(ramq.engine, builder.store, grace_seconds=-1)
    assert ramq.erasures.verify(report.deletion_id).is_clean


def test_dropping_a_generation_leaves_the_other_spaces(ramq: Services, worker: Worker) -> None:
    for space in ("look", "siglip"):
        make_space(ramq, worker, space)
    kept = stored(ramq, serving(ramq, "look"))
    assert ramq.stages.drop(serving(ramq, "siglip")).records == len(kept)
    assert stored(ramq, serving(ramq, "look")) == kept
    with unit_of_work(ramq.engine) as session:
        assert generations.default(session, "siglip") is None
        assert session.scalar(text("SELECT count(*) FROM look")) == len(kept)


def test_a_space_takes_a_folder_with_a_tower_of_its_kind(ramq: Services, worker: Worker) -> None:
    write_tiny_tower("dinov3-base", ramq.settings.models_path)
    make_space(ramq, worker, "dino", "dinov3-base")
    assert {one.model for one in ramq.stages.generations() if one.stage == "dino"} == {"dinov3-base"}
    for wrong in ("siglip2-base", "lite", "../lite", ""):
        with pytest.raises(UsageError, match=r"unknown model .* of dino; choose one of dinov2-base"):
            ramq.stages.estimate("dino", SearchQuery(), model=wrong or ".")


def test_a_folder_with_a_tower_of_another_kind_is_refused(ramq: Services) -> None:
    (ramq.settings.models_path / "mine").symlink_to(ramq.settings.models_path / "siglip2-base")
    with pytest.raises(UsageError, match="has a model of type 'siglip', which makes no vectors of the space dino; use"):
        ramq.stages.start("dino", SearchQuery(), model="mine")
    assert ramq.stages.estimate("siglip", SearchQuery(), model="mine").vector_size


def test_a_setting_that_names_a_tower_of_another_kind_is_refused_before_a_job_starts(
    services: Services, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_tiny_tower("siglip2-base", services.settings.models_path).rename(services.settings.models_path / "mine")
    for model, message in (("siglip2-base", "unknown model 'siglip2-base' of dino"), ("mine", "type 'siglip'")):
        settings = services.settings.model_copy(update={"dino_model": model})
        other = Services(settings, services.engine, None, is_reachable=False)
        with pytest.raises(UsageError, match=message):
            other.jobs.create(str(folder), stages=["dino"])
    assert services.jobs.list().items == []


def test_three_stages_share_each_picture(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (60 * number, 90, 120)).save(folder / f"{number}.png")
    write_tiny_tower("siglip2-base", services.settings.models_path)
    monkeypatch.setattr(model_holder, "load_model", load_null)
    fetched, decoded = [], []
    fetch, decode = FolderStore.fetch, Decoders.read_for_all

    def fetch_counted(store: FolderStore, key: str, *args: object, **more: object) -> object:
        fetched.append(key)
        return fetch(store, key, *args, **more)  # type: ignore[arg-type]

    def decode_counted(decoders: Decoders, body: bytes, ways: list[Any], **more: Any) -> object:
        decoded.append(len({way.size for way in ways}))
        return decode(decoders, body, ways, **more)

    monkeypatch.setattr(FolderStore, "fetch", fetch_counted)
    monkeypatch.setattr(Decoders, "read_for_all", decode_counted)
    services.jobs.create(str(folder), stages=["recognition", "look", "siglip"])
    worker = make_worker(services, space_models(services))
    while not all(one.is_over for one in services.jobs.list().items):
        worker.work()
    worker.leave()
    assert {one.stage: one.done for one in services.jobs.list().items} == {"recognition": 3, "look": 3, "siglip": 3}
    assert sorted(fetched) == ["0.png", "1.png", "2.png"]
    assert decoded == [3, 3, 3]  # each picture once, for three sizes


def test_missing_weights_hold_up_only_their_own_stage(ramq: Services, tmp_path: Path) -> None:
    shutil.rmtree(ramq.settings.models_path / "siglip2-base")
    [told] = ramq.stages.lacking(["recognition", "look", "siglip", "dino"])
    assert "siglip2-base is neither in" in told
    assert "run `ramq models pull siglip2-base` where the workers run" in told
    assert ramq.stages.estimate("siglip", SearchQuery()).lacking == told
    [job] = ramq.stages.start("siglip", SearchQuery())
    poor = make_worker(ramq, space_models(ramq))
    poor.work()
    [reason] = poor.fitness.reasons()
    assert (reason.kind, reason.name) == ("model", "siglip2-base")
    make_space(ramq, poor, "look")  # its other stages go on
    assert not ramq.jobs.get(job.id).is_over
    elsewhere = tmp_path / "models"
    write_tiny_tower("siglip2-base", elsewhere)
    rich = make_worker(ramq, space_models(ramq, elsewhere))
    rich.start()
    by_id = {each.id: each.weights for each in ramq.jobs.workers()}
    assert by_id[rich.id] == ["siglip2-base"]
    assert ramq.stages.lacking(["siglip"]) == []
    while not ramq.jobs.get(job.id).is_over:
        rich.work()
    assert ramq.jobs.get(job.id).failed == 0
    poor.leave()
    rich.leave()
    assert ramq.stages.lacking(["siglip"]) == [told]


def test_what_a_space_costs_is_told_first(ramq: Services, worker: Worker) -> None:
    before = ramq.stages.estimate("siglip", SearchQuery())
    encoder = load_image_encoder("siglip2-base", models_dir=ramq.settings.models_path)
    assert (before.done, before.images_per_second, before.vector_size) == (0, None, encoder.spec.vector_size)
    assert before.vector_bytes == 2 * encoder.spec.vector_size * before.images
    environment = {
        "RAMQ_DATABASE_URL": ramq.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
    }
    said = run_here(["look", "--space", "siglip", "--dry-run"], environment)
    assert said.stdout.startswith(f"{before.images} images. No rate is known yet")
    assert f"Their vectors ({encoder.spec.vector_size} numbers) take" in said.stdout
    assert said.stderr == ""
    assert run_here(["look", "--space", "smell", "--dry-run"], environment).returncode == 2
    make_space(ramq, worker, "siglip")
    after = ramq.stages.estimate("siglip", SearchQuery())
    assert (after.done, after.vector_size, after.vector_bytes) == (before.images, before.vector_size, 0)
    assert after.images_per_second
    shutil.rmtree(ramq.settings.models_path / "dinov2-base")
    poor = run_here(["look", "--space", "dino"], environment)
    assert "run `ramq models pull dinov2-base`" in poor.stderr
    assert poor.returncode == 0
    unlocated = run_here(["locate", "--masks", "--dry-run"], environment)
    assert "`ramq models pull grounding-dino-tiny` and `ramq models pull sam-vit-base`" in unlocated.stderr


def test_an_image_names_its_spaces_and_an_export_has_the_vectors_of_one(
    ramq: Services, worker: Worker, client: TestClient, tmp_path: Path
) -> None:
    for space in ("look", "siglip"):
        make_space(ramq, worker, space)
    first = ramq.images.find("chelsea.png")
    views = {view.space: view for view in ramq.images.get(first).vectors}
    assert {space: view.model for space, view in views.items()} == {
        "text": "lite", "look": "lite", "siglip": "siglip2-base"
    }  # fmt: skip
    assert (views["look"].length, views["siglip"].generation_id) == (560, serving(ramq, "siglip"))
    told = client.get(f"/v1/images/{first}").json()["vectors"]
    assert [each["space"] for each in told] == ["text", "look", "siglip"]
    assert f"siglip (siglip2-base, generation {serving(ramq, 'siglip')}, " in client.get(f"/images/{first}").text
    environment = {
        "RAMQ_DATABASE_URL": ramq.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
    }
    assert "siglip2-base" in run_here(["show", str(first)], environment).stdout
    kept = stored(ramq, serving(ramq, "siglip"))
    rows = [json.loads(line) for line in run_here(["export", "--vectors", "siglip"], environment).stdout.splitlines()]
    assert {row["image_id"]: np.array(row["vector"], "<f2").tobytes() for row in rows} == kept
    file = tmp_path / "found.parquet"
    run_here(["export", "--vectors", "look", "--text", "--format", "parquet", "--out", str(file)], environment)
    table = parquet.read_table(file).to_pylist()
    assert {row["image_id"]: np.array(row["vector"], "<f2").tobytes() for row in table} == stored(
        ramq, serving(ramq, "look")
    )
    row = ramq.stages.vectors("text")([first])[first]
    assert len(row) == views["text"].length
    for words, message in (
        (("--vectors", "dino"), "no image has a vector of the space dino yet: run `ramq look --space dino`"),
        (("--vectors", "smell"), "there is no space 'smell'; choose one of look,"),
        (("--vectors", "look", "--format", "csv"), "csv has no place for vectors; choose one of jsonl, parquet"),
    ):
        refused = run_here(["export", *words], environment)
        assert refused.returncode
        assert message in refused.stderr


def test_spaces_that_nobody_asked_for_cost_nothing(ramq: Services, worker: Worker) -> None:
    first = ramq.images.find("chelsea.png")
    searches = (SearchQuery(), SearchQuery(like=first, space="text"), SearchQuery(tags=("Egyptian cat",)))
    before = [statements(ramq, query) for query in searches]
    with unit_of_work(ramq.engine) as session:
        partitions = (
            "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'look'::regclass"
        )
        assert session.scalars(text(partitions)).all() == []
    assert not any(one.stage in SPACES for one in ramq.index.status())
    for space in SPACES:
        make_space(ramq, worker, space)
    assert [statements(ramq, query) for query in searches] == before


def statements(ramq: Services, query: SearchQuery) -> int:
    """Return how many SQL statements a search takes when what is remembered is known."""

    def ask() -> int:
        ramq.search.page(query)
        with statements_on(ramq.engine) as sent:
            ramq.search.page(query)
        return len(sent)

    return undisturbed(ramq.engine, ask)
