"""An archive as data of a training: what people said counts, and pictures come as they were listed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from sqlalchemy import text

from ram_core import TagVocabulary, load_vocabulary
from ram_core.errors import ImageError, TrainingError
from ram_core.training.data import ImageBatches, open_dataset, write_official
from ramq.services.training_data import DecodeInProcesses
from ramq.wiring import open_services
from storage.errors import ForbiddenError
from storage.objects.base import ObjectMissingError, StoreUnavailableError
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, recognise
from tests.services.web import services_of
from tests.unit.test_training_data import RECIPE, same

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def services(client: TestClient) -> Services:
    return services_of(client)


def test_images_have_their_tags_as_people_corrected_them(services: Services) -> None:
    imagenet = load_vocabulary("imagenet")
    cup = services.images.find("coffee.png")
    before = services.training_data.dataset(SearchQuery(), imagenet)
    by_name = {sample.name: sample for sample in before.samples}
    (cat,) = imagenet.resolve(CAT)
    assert cat in by_name["chelsea.png"].tags
    assert not by_name["chelsea.png"].captions, "they are composed from tags"
    wanted = {hit.key: sorted(tag.id for tag in hit.tags) for hit in services.search.export(SearchQuery())[1]}
    assert {name: sample.tags for name, sample in by_name.items()} == {key: ids for key, ids in wanted.items() if ids}

    services.corrections.tag([cup], add=[CAT])
    services.corrections.tag([services.images.find("chelsea.png")], remove=[CAT])
    with services.engine.begin() as connection:
        for key, caption in (("chelsea.png", f"a {CAT} on a sofa"), ("coffee.png", f"a {CAT} beside an espresso")):
            connection.execute(
                text(
                    """UPDATE record SET caption = :caption, captioner = 'tag2text'
                       WHERE image_id = (SELECT id FROM image WHERE key = :key)"""
                ),
                {"key": key, "caption": caption},
            )
    after = {sample.name: sample for sample in services.training_data.dataset(SearchQuery(), imagenet).samples}
    assert cat not in after["chelsea.png"].tags
    assert not after["chelsea.png"].captions, "it names a tag that is not there"
    assert cat in after["coffee.png"].tags
    assert cat in after["coffee.png"].caption_tags[0]
    assert after["coffee.png"].captions == [f"a {CAT} beside an espresso"]
    strict = services.training_data.dataset(SearchQuery(threshold=1.0), imagenet)
    assert [sample.tags for sample in strict.samples] == [[cat, *imagenet.resolve("espresso")]]


def test_names_are_looked_up_in_the_vocabulary_of_the_training(services: Services) -> None:
    own = TagVocabulary.from_names("own", ["stool", "settee"])
    with pytest.raises(TrainingError, match=r"of \d+ images neither captions nor tags are known"):
        services.training_data.dataset(SearchQuery(), own)
    services.corrections.tag([services.images.find("coffee.png")], add=[CAT])
    with services.engine.begin() as connection:
        connection.execute(text("UPDATE correction SET name = 'settee', spelling = 'Settee'"))
    dataset = services.training_data.dataset(SearchQuery(), own)
    assert [(sample.name, sample.tags) for sample in dataset.samples] == [("coffee.png", [1])]


def test_batches_come_from_the_archive_as_from_its_files_and_decoders_may_be_processes(
    services: Services, archive: Path, tmp_path: Path
) -> None:
    imagenet = load_vocabulary("imagenet")
    dataset = services.training_data.dataset(SearchQuery(), imagenet)
    write_official(tmp_path / "t.json", dataset.samples)
    files = open_dataset(tmp_path / "t.json", vocabulary=imagenet, images=archive)
    assert files.describe()["sha256"] == dataset.describe()["sha256"]
    decode = DecodeInProcesses(2, 50_000_000)
    try:
        ours, theirs = (
            list(ImageBatches(each, RECIPE, imagenet, workers=2, **more).epoch(0, 0))
            for each, more in ((dataset, {"decode": decode}), (files, {}))
        )
        with pytest.raises(ImageError, match="not an image in any known format"):
            decode(b"no picture", RECIPE.views_of(0, 0, 0))
    finally:
        decode.close()
    assert len(ours) == len(theirs) > 0
    assert all(same(*pair) for pair in zip(ours, theirs, strict=True))


def test_a_picture_that_is_gone_is_bad_and_a_store_that_is_gone_ends_the_training(
    services: Services, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = services.training_data.dataset(SearchQuery(), load_vocabulary("imagenet"))
    index = next(at for at in range(len(dataset)) if dataset.samples.name(at) == "chelsea.png")
    assert dataset.read(index) == (archive / "chelsea.png").read_bytes()
    monkeypatch.setattr("ramq.services.training_data._TRIES", 1)
    for error, seen, message in (
        (ObjectMissingError("the object is gone"), ImageError, "the object is gone"),
        (StoreUnavailableError("the store does not answer"), TrainingError, "does not answer; resume later"),
        (ForbiddenError("not in RAMQ_ARCHIVE_ALLOW"), TrainingError, "not in RAMQ_ARCHIVE_ALLOW"),
    ):
        monkeypatch.setattr(services.images, "picture", Mock(side_effect=error))
        with pytest.raises(seen, match=message):
            dataset.read(index)


def test_pictures_come_from_s3_as_in_recognition(
    s3_settings: Settings, s3_server: S3Server, bucket: str, archive: Path
) -> None:
    pictures = {name: (archive / name).read_bytes() for name in ("chelsea.png", "coffee.png")}
    s3_server.put(bucket, {f"pets/{name}": body for name, body in pictures.items()})
    with open_services(s3_settings) as services:
        recognise(services, f"s3://{bucket}/pets")
        dataset = services.training_data.dataset(
            SearchQuery(archive=f"s3://{bucket}/pets"), load_vocabulary("imagenet")
        )
        found = {dataset.samples.name(index).rpartition("/")[2]: dataset.read(index) for index in range(len(dataset))}
        assert found == pictures
        assert dataset.describe()["kind"] == "archive"
        s3_server.put(bucket, {"pets/chelsea.png": pictures["coffee.png"] + b"\0"})
        index = next(at for at in range(2) if dataset.samples.name(at).endswith("chelsea.png"))
        with pytest.raises(ImageError, match="changed"):
            dataset.read(index)
