"""The stage ``crops`` and its index: a real worker, regions of tiny networks or made up, vectors that cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.localization.tiny import write_tiny_model
from ramq.demo_photos import installed_photographs
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.index.garbage import collect_garbage
from storage.results import crops
from storage.search.views import SearchQuery
from tests.crop_archive import (
    BOXES,
    COUNT,
    a_region,
    check_crops,
    check_index,
    generation,
    image_ids,
    locate,
    start,
    stored,
    views,
    work,
)
from workers.stages import StageOptions
from workers.stages.crops import KIND, LEAST, cut

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


# The stage


def test_every_region_gets_the_vector_and_the_tags_of_its_pixels(cropped: Services, crop_worker: Worker) -> None:
    assert len(stored(cropped)) == (COUNT - 1) * len(BOXES)
    check_crops(cropped)
    [made] = [one for one in cropped.stages.generations() if one.stage == "crops"]
    assert (made.model, made.images, made.is_default) == ("lite", COUNT, True)
    assert "crops" in {entry.stage for entry in cropped.images.get(image_ids(cropped)[0]).history}
    again = work(cropped, crop_worker, start(cropped))
    assert (again.done, again.skipped) == (0, COUNT)


def test_what_a_locator_finds_is_cropped_and_locating_again_replaces_it(
    services: Services, crop_worker: Worker, pictures: Path
) -> None:
    """With the real networks of a locator, of random weights."""
    work(services, crop_worker, services.jobs.create(str(pictures)))
    write_tiny_model("grounding-dino-tiny", services.settings.models_path)
    work(services, crop_worker, start(services, "locate"))
    assert work(services, crop_worker, start(services)).done == COUNT
    assert stored(services)
    check_crops(services)
    builder = make_builder(services.settings, services.engine)
    builder.publish_new(generation(services), force=True)
    work(services, crop_worker, start(services, "locate", options={"tags": ["ball"]}))
    assert work(services, crop_worker, start(services)).done == COUNT
    check_crops(services)
    assert {row.tag for row in stored(services)} == {"ball"}
    builder.publish_new(generation(services), force=True)
    check_index(services)
    [status] = [one for one in services.index.status() if one.stage == "crops"]
    assert status.vectors_indexed == status.vectors_stored == len(stored(services))


def test_before_anything_was_located_the_stage_is_refused(services: Services, pictures: Path) -> None:
    services.jobs.create(str(pictures))
    with pytest.raises(UsageError, match=r"tags were located in no image yet.*run `ramq locate` first"):
        services.stages.start("crops", SearchQuery())
    with pytest.raises(UsageError, match="needs what recognition finds: run `ramq crops` afterwards"):
        services.jobs.create(str(pictures), stages=["crops"])
    with pytest.raises(UsageError, match="unknown model 'yolo' of crops"):
        services.stages.start("crops", SearchQuery(), model="yolo")


def test_images_that_were_not_located_are_left_out(services: Services, crop_worker: Worker, pictures: Path) -> None:
    work(services, crop_worker, services.jobs.create(str(pictures)))
    first, *_ = image_ids(services)
    locate(services, first, "dog")
    done = work(services, crop_worker, start(services))
    assert (done.listed, done.done) == (1, 1)
    assert {row.image_id for row in stored(services)} == {first}


def test_a_correction_makes_an_image_pending_and_its_regions_follow(cropped: Services, crop_worker: Worker) -> None:
    image_id, number = a_region(cropped)
    before = stored(cropped)
    region = views(cropped)[image_id].regions[number - 1]
    said = cropped.regions.correct(image_id, region.tag, region.box, is_there=False)
    cropped.regions.correct(image_id, "moon", (0.1, 0.1, 0.4, 0.5), is_there=True)
    job = work(cropped, crop_worker, start(cropped))
    assert (job.done, job.skipped) == (1, COUNT - 1)
    check_crops(cropped)
    assert "moon" in {row.tag for row in stored(cropped) if row.image_id == image_id}
    cropped.regions.withdraw(image_id, said)
    assert work(cropped, crop_worker, start(cropped)).done == 1
    check_crops(cropped)
    others = [row for row in before if row.image_id != image_id]
    assert [row for row in stored(cropped) if row.image_id != image_id] == others, "others were not touched"


def test_changed_bytes_have_to_be_located_first(cropped: Services, crop_worker: Worker, pictures: Path) -> None:
    image_id = image_ids(cropped)[0]
    file = pictures / cropped.images.get(image_id).key
    other = pictures / cropped.images.get(image_ids(cropped)[1]).key
    before = [row for row in stored(cropped) if row.image_id == image_id]
    file.write_bytes(other.read_bytes())
    work(cropped, crop_worker, cropped.jobs.create(str(pictures)))
    assert work(cropped, crop_worker, start(cropped)).done == 0, "its regions are those of other bytes"
    assert [row for row in stored(cropped) if row.image_id == image_id] == before
    locate(cropped, image_id, "dog", "cat")
    assert work(cropped, crop_worker, start(cropped)).done == 1
    check_crops(cropped)


def test_bytes_that_change_between_locating_and_cropping_get_no_vectors(
    located: Services, crop_worker: Worker, pictures: Path
) -> None:
    """The worker sees at the fetch that the object is another one than was listed."""
    image_id = image_ids(located)[0]
    job = start(located)
    crop_worker._list()
    Image.new("RGB", (50, 40), "red").save(pictures / located.images.get(image_id).key)
    assert work(located, crop_worker, job).done == COUNT
    assert image_id not in {row.image_id for row in stored(located)}
    locate(located, image_id, "dog")
    assert work(located, crop_worker, start(located)).done == 1
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


def test_the_index_follows_and_agrees_with_the_database(cropped: Services, crop_worker: Worker) -> None:
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
    work(cropped, crop_worker, start(cropped))
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


def test_the_loop_of_workers_publishes_regions_too(cropped: Services, crop_worker: Worker) -> None:
    crop_worker._publish_new()
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


def test_the_installed_model_recognises_regions(tmp_path: Path) -> None:
    """With the weights of lite: a photograph, and the half of it that shows the thing."""
    photograph = next(path for path in installed_photographs() if path.name == "chelsea.png")
    stage = KIND.load("lite", StageOptions("cpu", tmp_path, cache_dir=tmp_path))
    with Image.open(photograph) as image:
        picture = stage.preprocessing(image)
    boxes = ((0.0, 0.0, 1.0, 1.0), (0.2, 0.0, 0.9, 0.9))
    asked = crops.Sought("1", "5", tuple(("cat", box) for box in boxes))
    [found, nothing] = stage.run([picture, picture], [asked, None])
    assert nothing.predictions == []
    whole, part = found.predictions
    assert np.linalg.norm(part.vector) == pytest.approx(1, abs=1e-3)
    assert 0.5 < float(whole.vector @ part.vector) < 1
    spec = stage.spec
    assert (spec.stage, spec.model, spec.vector_size) == ("crops", "lite", len(part.vector))
    assert "margin" in spec.preprocessing


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
