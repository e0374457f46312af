"""The stage ``crops`` from a request to hits: a real worker, regions of tiny networks, vectors of a model that is free.

What a crop's vector must be follows from its pixels, so each test computes it from the file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from starlette.testclient import TestClient

from ram_core.localization.tiny import write_tiny_model
from ram_core.transforms import ReadingTransform
from ramq.services.index import make_builder
from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.index.garbage import collect_garbage
from storage.results import crops, generations, regions
from storage.results.generations import StageSpec
from storage.results.packing import unpack_vectors
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.views import SearchQuery
from tests.services.null_worker import VECTOR_SIZE, NullModel, expected, load_null
from tests.services.recognised import make_worker
from workers.pipeline import model_holder
from workers.pipeline.model_holder import ModelHolder, ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions
from workers.stages.crops import LEAST, SIDE, cut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from storage.results.region_views import RegionsView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

COUNT = 4
BOXES = {"dog": (0.1, 0.2, 0.6, 0.9), "ball": (0.5, 0.5, 0.9, 0.95), "speck": (0.9, 0.05, 0.905, 0.055)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pictures of noise: every region of them is another one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that recognises at no cost, also regions, and locates with a tiny network of random weights."""
    monkeypatch.setattr(model_holder, "load_model", load_null)
    monkeypatch.setattr("ram_core.load_model", load_null)
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    folder = services.settings.models_path
    further = StageHolder(StageOptions("cpu", folder), ["locate", "crops"])
    options = ModelOptions("cpu", folder, services.settings.cache_path)
    worker = make_worker(services, ModelHolder(services.engine, options, None, further))
    yield worker
    worker.leave()


@pytest.fixture
def recognised(services: Services, worker: Worker, source: Path) -> Services:
    work(services, worker, services.jobs.create(str(source)))
    return services


@pytest.fixture
def located(recognised: Services) -> Services:
    """Services with regions in each image but the last, which has none."""
    *some, last = image_ids(recognised)
    for image_id in some:
        locate(recognised, image_id, *BOXES)
    locate(recognised, last)
    return recognised


def locate(services: Services, image_id: int, *tags: str) -> None:
    """Write regions as a worker does that found these tags."""
    found = [FoundRegion(tag, 0.9, BOXES.get(tag, (0.3, 0.3, 0.7, 0.6))) for tag in tags]
    with unit_of_work(services.engine) as session:
        number = generations.ensure_of_stage(session, StageSpec("locate", "made up", "made up", "", ""))
        version = session.scalar(text("SELECT version FROM image WHERE id = :id"), {"id": image_id})
        regions.write_regions(session, [RegionsRow(image_id, version, found, is_cut=False)], Provenance(1, number, ""))


@pytest.fixture
def cropped(located: Services, worker: Worker) -> Services:
    """Services whose regions have vectors."""
    job = work(located, worker, start(located))
    assert (job.state, job.done, job.failed) == ("done", COUNT, 0)
    return located


def work(services: Services, worker: Worker, job: JobView) -> JobView:
    while not services.jobs.get(job.id).is_over:
        worker._list()
        worker.work()
    return services.jobs.get(job.id)


def start(services: Services, stage: str = "crops", **more: Any) -> JobView:
    [job] = services.stages.start(stage, SearchQuery(), **more)
    return job


def image_ids(services: Services) -> list[int]:
    with unit_of_work(services.engine) as session:
        return list(session.scalars(text("SELECT id FROM image ORDER BY id")))


def views(services: Services) -> dict[int, RegionsView]:
    return services.regions.views(image_ids(services))


def stored(services: Services) -> list[Any]:
    with unit_of_work(services.engine) as session:
        return list(session.execute(text("SELECT * FROM crop ORDER BY image_id, number")).all())


def generation(services: Services) -> int:
    [found] = [one.id for one in services.stages.generations() if one.stage == "crops"]
    return found


def opened(services: Services, image_id: int) -> np.ndarray:
    """The picture from which regions are cut."""
    view = services.images.get(image_id)
    with Image.open(view.uri.removeprefix("file://")) as image:
        return ReadingTransform(SIDE)(image)


def check_crops(services: Services) -> None:
    """Every region of every image has a row that follows from its pixels, and there are no others."""
    rows = {(row.image_id, row.number): row for row in stored(services)}
    seen = [(image_id, region) for image_id, view in views(services).items() for region in view.regions]
    assert set(rows) == {(image_id, region.number) for image_id, region in seen}
    model = NullModel()
    for image_id, region in seen:
        wanted = expected(model.preprocessing(Image.fromarray(cut(opened(services, image_id), region.box))))
        row = rows[image_id, region.number]
        assert row.tag == region.tag
        assert unpack_vectors(row.v, VECTOR_SIZE)[0] == pytest.approx(wanted.vector, abs=1e-3)
        assert sorted(row.tags) == sorted(f"tag {number}" for number in wanted.tag_ids)
        assert row.scores == sorted(row.scores, reverse=True)


def check_index(services: Services) -> None:
    builder = make_builder(services.settings, services.engine)
    assert builder.verify(generation(services)) == []


def a_region(services: Services) -> tuple[int, int]:
    """An image and the number of one of its regions."""
    return next((image_id, view.regions[-1].number) for image_id, view in views(services).items() if view.regions)


# The stage


def test_every_region_gets_the_vector_and_the_tags_of_its_pixels(cropped: Services, worker: Worker) -> None:
    assert len(stored(cropped)) == (COUNT - 1) * len(BOXES)
    check_crops(cropped)
    [made] = [one for one in cropped.stages.generations() if one.stage == "crops"]
    assert (made.model, made.images, made.is_default) == ("lite", COUNT, True)
    again = work(cropped, worker, start(cropped))
    assert (again.done, again.skipped) == (0, COUNT)


def test_what_a_locator_finds_is_cropped_and_locating_again_replaces_it(recognised: Services, worker: Worker) -> None:
    """With the real networks of a locator, of random weights."""
    write_tiny_model("grounding-dino-tiny", recognised.settings.models_path)
    work(recognised, worker, start(recognised, "locate"))
    assert work(recognised, worker, start(recognised)).done == COUNT
    assert stored(recognised)
    check_crops(recognised)
    builder = make_builder(recognised.settings, recognised.engine)
    builder.publish_new(generation(recognised), force=True)
    work(recognised, worker, start(recognised, "locate", options={"tags": ["ball"]}))
    assert work(recognised, worker, start(recognised)).done == COUNT
    check_crops(recognised)
    assert {row.tag for row in stored(recognised)} == {"ball"}
    builder.publish_new(generation(recognised), force=True)
    check_index(recognised)
    [status] = [one for one in recognised.index.status() if one.stage == "crops"]
    assert status.vectors_indexed == status.vectors_stored == len(stored(recognised))


def test_before_anything_was_located_the_stage_is_refused(recognised: Services, source: Path) -> None:
    with pytest.raises(UsageError, match=r"tags were located in no image yet.*run `ramq locate` first"):
        recognised.stages.start("crops", SearchQuery())
    with pytest.raises(UsageError, match="needs what recognition finds: run `ramq crops` afterwards"):
        recognised.jobs.create(str(source), stages=["crops"])
    with pytest.raises(UsageError, match="unknown model 'yolo' of crops"):
        recognised.stages.start("crops", SearchQuery(), model="yolo")


def test_images_that_were_not_located_are_left_out(recognised: Services, worker: Worker) -> None:
    first, *_ = image_ids(recognised)
    locate(recognised, first, "dog")
    done = work(recognised, worker, start(recognised))
    assert (done.listed, done.done) == (1, 1)
    assert {row.image_id for row in stored(recognised)} == {first}


def test_a_correction_makes_an_image_pending_and_its_regions_follow(cropped: Services, worker: Worker) -> None:
    image_id, number = a_region(cropped)
    before = stored(cropped)
    region = views(cropped)[image_id].regions[number - 1]
    said = cropped.regions.correct(image_id, region.tag, region.box, is_there=False)
    cropped.regions.correct(image_id, "moon", (0.1, 0.1, 0.4, 0.5), is_there=True)
    job = work(cropped, worker, start(cropped))
    assert (job.done, job.skipped) == (1, COUNT - 1)
    check_crops(cropped)
    assert "moon" in {row.tag for row in stored(cropped) if row.image_id == image_id}
    cropped.regions.withdraw(image_id, said)
    assert work(cropped, worker, start(cropped)).done == 1
    check_crops(cropped)
    others = [row for row in before if row.image_id != image_id]
    assert [row for row in stored(cropped) if row.image_id != image_id] == others, "others were not touched"


def test_changed_bytes_have_to_be_located_first(cropped: Services, worker: Worker, source: Path) -> None:
    image_id = image_ids(cropped)[0]
    file = source / cropped.images.get(image_id).key
    other = source / cropped.images.get(image_ids(cropped)[1]).key
    before = [row for row in stored(cropped) if row.image_id == image_id]
    file.write_bytes(other.read_bytes())
    work(cropped, worker, cropped.jobs.create(str(source)))
    assert work(cropped, worker, start(cropped)).done == 0, "its regions are those of other bytes"
    assert [row for row in stored(cropped) if row.image_id == image_id] == before
    locate(cropped, image_id, "dog", "cat")
    assert work(cropped, worker, start(cropped)).done == 1
    check_crops(cropped)


def test_bytes_that_change_between_locating_and_cropping_get_no_vectors(
    located: Services, worker: Worker, source: Path
) -> None:
    """The worker sees at the fetch that the object is another one than was listed."""
    image_id = image_ids(located)[0]
    job = start(located)
    worker._list()
    Image.new("RGB", (50, 40), "red").save(source / located.images.get(image_id).key)
    assert work(located, worker, job).done == COUNT
    assert image_id not in {row.image_id for row in stored(located)}
    locate(located, image_id, "dog")
    assert work(located, worker, start(located)).done == 1
    check_crops(located)


def test_dropping_the_generation_leaves_nothing(cropped: Services) -> None:
    builder = make_builder(cropped.settings, cropped.engine)
    number = generation(cropped)
    builder.publish_new(number, force=True)
    report = cropped.stages.drop(number)
    assert (report.records, report.vectors) == (COUNT, report.vectors)
    assert report.vectors > 0
    assert stored(cropped) == []
    assert f"generation-{number}" not in builder.store.place.names("")
    assert [one.stage for one in cropped.index.status()] == ["recognition"]


# The index


def test_the_index_follows_and_agrees_with_the_database(cropped: Services, worker: Worker) -> None:
    builder = make_builder(cropped.settings, cropped.engine)
    number, rows = generation(cropped), len(stored(cropped))

    def status() -> tuple[int, int, int]:
        [one] = [one for one in cropped.index.status() if one.stage == "crops"]
        return one.vectors_indexed, one.vectors_stored, one.delta

    assert status() == (0, rows, rows)
    builder.publish_new(number, force=True)
    assert status() == (rows, rows, 0)
    check_index(cropped)
    image_id, _ = a_region(cropped)
    cropped.regions.correct(image_id, "moon", (0.1, 0.1, 0.4, 0.5), is_there=True)
    work(cropped, worker, start(cropped))
    assert status()[1] == rows + 1 == len(stored(cropped))
    check_index(cropped)
    builder.publish_new(number, force=True)
    builder.compact(number, purge=True)
    assert status() == (rows + 1, rows + 1, 0)
    check_index(cropped)
    builder.rebuild(number)
    assert status() == (rows + 1, rows + 1, 0)
    check_index(cropped)
    with unit_of_work(cropped.engine) as session:
        session.execute(text("UPDATE crop SET v = (SELECT v FROM crop ORDER BY v DESC LIMIT 1) WHERE number = 1"))
        session.execute(text("UPDATE crop SET xid = '1' WHERE number = 1"))
    assert any("region 1 of image" in line for line in builder.verify(number))


def test_the_loop_of_workers_publishes_regions_too(cropped: Services, worker: Worker) -> None:
    worker._publish_new()
    assert {one.stage: one.delta for one in cropped.index.status()} == {"recognition": 0, "crops": 0}
    check_index(cropped)


def test_a_deleted_image_leaves_nothing_anywhere(cropped: Services) -> None:
    builder = make_builder(cropped.settings, cropped.engine)
    number = generation(cropped)
    builder.publish_new(number, force=True)
    image_id, _ = a_region(cropped)
    report = cropped.erasures.delete([image_id])
    assert report.crops > 0
    found = cropped.erasures.verify(report.deletion_id)
    assert not found.is_clean
    assert any(f"generation-{number}/segment-" in trace.place for trace in found.traces if trace.left)
    assert all(trace.left == 0 for trace in found.traces if trace.place.startswith(("table", "searches")))
    for each in cropped.index.generations():
        builder.compact(each, purge=True)
    collect_garbage(cropped.engine, builder.store, grace_seconds=-1)
    found = cropped.erasures.verify(report.deletion_id)
    assert [trace for trace in found.traces if trace.left] == []
    assert found.is_clean
    check_index(cropped)


# Searching


def test_a_region_finds_itself_first_and_then_the_nearest(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    rows = {(row.image_id, row.number): unpack_vectors(row.v, VECTOR_SIZE)[0] for row in stored(cropped)}
    own = rows[image_id, number]
    page = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=500))
    assert page.total == len(page.items) == len(rows)
    first = page.items[0]
    assert first.region is not None
    assert (first.image_id, first.region.number) == (image_id, number)
    assert first.score == pytest.approx(1, abs=2e-3)
    found = [(hit.image_id, hit.region.number) for hit in page.items if hit.region]
    assert len(set(found)) == len(rows)
    assert [hit.score for hit in page.items] == pytest.approx([float(own @ rows[one]) for one in found], abs=1e-3)
    assert [hit.score for hit in page.items] == sorted((hit.score for hit in page.items), reverse=True)


def test_words_and_filters_choose_the_images(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    key = cropped.images.get(image_id).key
    for query in (SearchQuery(prefix=key), cropped.search.read(SearchQuery(), f"prefix:{key}")):
        page = cropped.search.page(_liking(query, image_id, number))
        assert {hit.image_id for hit in page.items} == {image_id}
        assert page.total == len(views(cropped)[image_id].regions)
    tag = cropped.images.get(image_id).tags[0].name
    having = {hit.image_id for hit in cropped.search.page(SearchQuery(tags=(tag,), limit=500)).items}
    page = cropped.search.page(_liking(SearchQuery(tags=(tag,)), image_id, number))
    with_regions = {one for one, view in views(cropped).items() if view.regions}
    assert {hit.image_id for hit in page.items} == having & with_regions
    page = cropped.search.page(_liking(SearchQuery(not_tags=(tag,)), image_id, number))
    assert {hit.image_id for hit in page.items} == with_regions - having


def _liking(query: SearchQuery, image_id: int, number: int) -> SearchQuery:
    return replace(query, like_region=(image_id, number), limit=500)


def test_pages_follow_each_other(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    whole = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=500)).items
    cursor, found = None, []
    while True:
        page = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=4, cursor=cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == whole


def test_a_rejected_region_is_found_no_more_and_the_others_have_their_new_numbers(cropped: Services) -> None:
    image_id, view = next((one, view) for one, view in views(cropped).items() if len(view.regions) > 1)
    gone, kept = view.regions[0], view.regions[1]
    cropped.regions.correct(image_id, gone.tag, gone.box, is_there=False)
    page = cropped.search.page(SearchQuery(like_region=(image_id, 1), limit=500))
    first = page.items[0]
    assert first.region is not None
    assert (first.image_id, first.region.number, first.region.box) == (image_id, 1, kept.box)
    found = [hit.region.box for hit in page.items if hit.image_id == image_id and hit.region]
    assert gone.box not in found


def test_errors_say_what_to_do(located: Services, worker: Worker) -> None:
    image_id, _ = a_region(located)
    with pytest.raises(NotFoundError, match="no region has a vector yet: run `ramq crops`"):
        located.search.page(SearchQuery(like_region=(image_id, 1)))
    work(located, worker, start(located))
    with pytest.raises(NotFoundError, match=f"there is no region 400 in image {image_id}; its regions are 1 to"):
        located.search.page(SearchQuery(like_region=(image_id, 400)))
    located.regions.correct(image_id, "moon", (0.1, 0.1, 0.4, 0.5), is_there=True)
    drawn = len(views(located)[image_id].regions)
    with pytest.raises(NotFoundError, match=f"region {drawn} of image {image_id} has no vector yet: run `ramq crops`"):
        located.search.page(SearchQuery(like_region=(image_id, drawn)))
    with pytest.raises(UsageError, match="either for images like one, or for regions like one"):
        located.search.page(SearchQuery(like_region=(image_id, 1), like=image_id))


def test_the_api_and_the_page_find_regions(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    client = TestClient(create_app(cropped), base_url="http://localhost", raise_server_exceptions=False)
    answer = client.get("/v1/search", params={"like_region": f"{image_id}/{number}", "limit": 3})
    assert answer.status_code == 200, answer.text
    first, *others = answer.json()["items"]
    region = views(cropped)[image_id].regions[number - 1]
    assert (first["image_id"], first["region"]["number"]) == (image_id, number)
    assert (first["region"]["tag"], tuple(first["region"]["box"])) == (region.tag, region.box)
    assert {tag["name"] for tag in first["region"]["tags"]} <= {f"tag {number}" for number in range(64)}
    assert len(others) == 2
    refused = client.get("/v1/search", params={"like_region": "12"})
    assert refused.status_code == 422
    missing = client.get("/v1/search", params={"like_region": f"{image_id}/400"})
    assert missing.status_code == 404
    assert "there is no region 400" in missing.json()["detail"]
    shown = client.get(f"/images/{image_id}").text
    assert f'href="/?like_region={image_id}/{number}"' in shown
    page = client.get("/", params={"like_region": f"{image_id}/{number}"})
    assert page.status_code == 200
    assert f'href="/images/{image_id}#region-{number}"' in page.text
    assert f"like region {number} of image {image_id}" in page.text
    assert f'name="like_region" value="{image_id}/{number}"' in page.text
    started = client.post("/v1/stages/crops/jobs", json={})
    assert [job["stage"] for job in started.json()["items"]] == ["crops"]


# Cutting out


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.001, 0.001), (0.999, 0.999, 1.0, 1.0), (0.5, 0.5, 0.5001, 0.9)])
def test_a_region_of_a_few_pixels_gets_its_surroundings(box: tuple[float, float, float, float]) -> None:
    picture = np.zeros((200, 300, 3), dtype=np.uint8)
    height, width = cut(picture, box).shape[:2]
    assert height >= LEAST
    assert width >= LEAST


def test_a_region_has_a_margin_and_stays_in_the_picture() -> None:
    rows, columns = np.meshgrid(np.arange(100, dtype=np.uint8), np.arange(200, dtype=np.uint8), indexing="ij")
    picture = np.stack([rows, columns, columns], axis=2)
    found = cut(picture, (0.2, 0.4, 0.6, 0.8))
    assert (int(found[0, 0, 0]), int(found[-1, -1, 0])) == (36, 83), "four tenths of 100 rows, and 4 more on each side"
    assert (int(found[0, 0, 1]), int(found[-1, -1, 1])) == (32, 127)
    assert cut(picture, (0.0, 0.0, 1.0, 1.0)).shape == picture.shape
    tiny = np.zeros((4, 3, 3), dtype=np.uint8)
    assert cut(tiny, (0.3, 0.3, 0.4, 0.4)).shape == tiny.shape


def test_ids_of_rows_name_regions() -> None:
    assert crops.MOST < 512
    assert crops.image_of(crops.row_id_of(12, crops.MOST)) == 12
