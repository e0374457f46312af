"""XMP sidecars beside pictures: read with the listing, joined with what files say, read again if they change."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from ramq.wiring import Services
from storage.database import unit_of_work
from storage.objects.folder import FolderStore
from storage.objects.ignoring import Selection
from storage.objects.s3 import S3Store
from storage.search.views import SearchQuery
from tests.metadata_archive import VIENNA, work, worker
from tests.same_picture import picture
from tests.told_by_files import exif, jpeg, xmp

if TYPE_CHECKING:
    from pathlib import Path

    from storage.results.metadata import MetadataView
    from tests.services.s3 import S3Server
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(
        jpeg(
            exif("2020:01:02 03:04:05", offset="+01:00", place=VIENNA), xmp({"xmp:Rating": "1", "dc:subject": ["old"]})
        )
    )
    (folder / "b.jpg").write_bytes(jpeg(exif("2021:01:02 03:04:05"), color="red"))
    (folder / "c.jpg").write_bytes(jpeg(color="blue"))
    return folder


def beside(path: Path, **told: object) -> None:
    names = {"rating": "xmp:Rating", "title": "dc:title", "keywords": "dc:subject", "taken": "exif:DateTimeOriginal"}
    path.write_bytes(xmp({names[name]: value for name, value in told.items()}))  # type: ignore[misc]


def told(services: Services, key: str) -> MetadataView:
    view = services.images.get(services.images.find(key)).metadata
    assert view is not None
    return view


def run(services: Services, made: Worker, folder: Path) -> tuple[int, int]:
    job = work(services, made, services.jobs.create(str(folder)))
    assert job.failed == 0
    return job.done, job.skipped


def keys(services: Services, query: str) -> set[str]:
    found = services.search.page(services.search.read(SearchQuery(limit=500), query, is_strict=True))
    return {hit.key for hit in found.items}


def test_an_image_has_what_its_file_and_its_sidecar_say(services: Services, made: Worker, folder: Path) -> None:
    beside(folder / "a.jpg.xmp", rating="5", keywords=["new", "words"], title=["A title"])
    beside(folder / "b.xmp", taken="2022-05-06T07:08:09")
    assert run(services, made, folder) == (3, 0)
    a, b, c = (told(services, f"{name}.jpg") for name in "abc")
    assert (a.rating, a.keywords, a.title, a.sidecar) == (5, ["new", "words"], "A title", "a.jpg.xmp")
    assert (a.taken_at, a.taken_offset, a.camera) == (datetime(2020, 1, 2, 3, 4, 5), 60, "NIKON D90")  # noqa: DTZ001
    assert (a.latitude, a.longitude) == pytest.approx(VIENNA, abs=1e-5)
    assert (b.taken_at, b.camera, b.sidecar) == (datetime(2022, 5, 6, 7, 8, 9), "NIKON D90", "b.xmp")  # noqa: DTZ001
    assert c.sidecar is None
    assert keys(services, "rating:5") == {"a.jpg"}
    assert keys(services, "keyword:new") == {"a.jpg"}
    assert keys(services, "keyword:old") == set()


def test_a_changed_sidecar_is_read_without_its_picture_and_a_removed_one_is_forgotten(
    services: Services, made: Worker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(folder / "a.xmp", rating="5")
    run(services, made, folder)
    fetched: list[str] = []
    fetch = FolderStore.fetch
    monkeypatch.setattr(FolderStore, "fetch", lambda self, key, *more: fetched.append(key) or fetch(self, key, *more))
    assert run(services, made, folder) == (0, 3)
    assert fetched == []
    beside(folder / "a.xmp", rating="3", keywords=["later"])
    beside(folder / "c.jpg.xmp", rating="2")
    assert run(services, made, folder) == (0, 3)
    assert sorted(fetched) == ["a.xmp", "c.jpg.xmp"]
    assert (told(services, "a.jpg").rating, told(services, "a.jpg").keywords) == (3, ["later"])
    assert told(services, "c.jpg").rating == 2
    (folder / "a.xmp").unlink()
    assert run(services, made, folder) == (0, 3)
    again = told(services, "a.jpg")
    assert (again.rating, again.keywords, again.sidecar) == (1, ["old"], None)
    assert told(services, "c.jpg").rating == 2


def test_the_sidecar_of_one_file_comes_before_that_of_all_of_its_name(
    services: Services, made: Worker, folder: Path
) -> None:
    (folder / "a.png").write_bytes(jpeg(color="green"))
    (folder / "a.b.jpg").write_bytes(jpeg(color="pink"))
    beside(folder / "a.xmp", rating="4")
    beside(folder / "a.jpg.xmp", rating="2")
    run(services, made, folder)
    assert [told(services, key).rating for key in ("a.jpg", "a.png", "a.b.jpg")] == [2, 4, None]
    (folder / "a.jpg.xmp").unlink()
    run(services, made, folder)
    assert told(services, "a.jpg").rating == 4


def test_a_new_version_of_the_picture_keeps_what_the_sidecar_says(
    services: Services, made: Worker, folder: Path
) -> None:
    beside(folder / "b.jpg.xmp", rating="5")
    run(services, made, folder)
    (folder / "b.jpg").write_bytes(jpeg(exif("2024:01:01 00:00:00"), color="gold"))
    assert run(services, made, folder) == (1, 2)
    b = told(services, "b.jpg")
    assert (b.rating, b.taken_at) == (5, datetime(2024, 1, 1))  # noqa: DTZ001
    (folder / "b.jpg.xmp").unlink()
    run(services, made, folder)
    assert told(services, "b.jpg").taken_at == datetime(2024, 1, 1)  # noqa: DTZ001


def test_a_copy_has_the_words_of_its_own_sidecar_only(services: Services, made: Worker, folder: Path) -> None:
    beside(folder / "a.jpg.xmp", rating="5", keywords=["mine"])
    run(services, made, folder)
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert run(services, made, folder) == (1, 3)
    copy = told(services, "copy.jpg")
    assert (copy.rating, copy.keywords, copy.sidecar) == (1, ["old"], None)


def test_what_ramq_wrote_into_a_sidecar_is_no_word_of_people(services: Services, made: Worker, folder: Path) -> None:
    from ram_core.xmp_packet import Words, written  # noqa: PLC0415

    packet = written(xmp({"dc:subject": ["by hand"]}), Words(("castle",), (("building", "castle"),), "A castle."))
    assert packet is not None
    (folder / "c.jpg.xmp").write_bytes(packet)
    run(services, made, folder)
    c = told(services, "c.jpg")
    assert (c.keywords, c.description) == (["by hand"], None)


def test_a_sidecar_that_cannot_be_read_harms_nothing(services: Services, made: Worker, folder: Path) -> None:
    (folder / "a.xmp").write_bytes(b"no XMP at all")
    (folder / "b.xmp").write_bytes(b"<x:xmpmeta " + bytes(3 << 20))
    (folder / "c.xmp").write_bytes(b'<!DOCTYPE a [<!ENTITY b "c">]>' + xmp({"xmp:Rating": "5"}))
    assert run(services, made, folder) == (3, 0)
    assert [told(services, f"{name}.jpg").rating for name in "abc"] == [1, None, None]


@pytest.mark.parametrize("damage", ["cut", "empty", "no XMP", "too large"])
def test_a_sidecar_that_breaks_keeps_the_words_that_were_known_and_is_named_in_the_log(
    services: Services, made: Worker, folder: Path, damage: str
) -> None:
    beside(folder / "b.jpg.xmp", rating="5", keywords=["mine"])
    run(services, made, folder)
    whole = (folder / "b.jpg.xmp").read_bytes()
    broken = {
        "cut": whole[: len(whole) * 2 // 3],
        "empty": b"",
        "no XMP": b"<html/>",
        "too large": whole + bytes(2 << 20),
    }
    (folder / "b.jpg.xmp").write_bytes(broken[damage])
    with capture_logs() as logs:
        run(services, made, folder)
    b = told(services, "b.jpg")
    assert (b.rating, b.keywords, b.sidecar) == (5, ["mine"], "b.jpg.xmp")
    [warning] = [each for each in logs if each["event"] == "sidecar not read"]
    assert (warning["log_level"], warning["key"]) == ("warning", "b.jpg.xmp")
    assert warning["error"]
    beside(folder / "b.jpg.xmp", rating="4")
    run(services, made, folder)
    assert (told(services, "b.jpg").rating, told(services, "b.jpg").keywords) == (4, [])


def test_places_and_images_that_are_forgotten_leave_nothing_of_their_sidecars(
    services: Services, made: Worker, folder: Path
) -> None:
    (folder / "c.jpg.xmp").write_bytes(xmp({"exif:GPSLatitude": "48,12.5N", "exif:GPSLongitude": "16,22.3E"}))
    beside(folder / "a.jpg.xmp", rating="5")
    run(services, made, folder)
    assert told(services, "c.jpg").latitude is not None
    services.metadata.forget_places()
    run(services, made, folder)
    assert (told(services, "c.jpg").latitude, told(services, "a.jpg").latitude) == (None, None)
    with unit_of_work(services.engine) as session:
        kept = session.scalar(text("SELECT count(*) FROM metadata WHERE own ? 'latitude'"))
        assert (kept, session.scalar(text("SELECT count(*) FROM sidecar WHERE facts ? 'latitude'"))) == (0, 0)
    services.erasures.delete([services.images.find("a.jpg")])
    with unit_of_work(services.engine) as session:
        assert session.scalars(text("SELECT key FROM sidecar")).all() == ["c.jpg.xmp"]


def test_a_picture_that_moves_with_its_sidecar_keeps_its_words(
    services: Services, made: Worker, tmp_path: Path
) -> None:
    folder = tmp_path / "moving"
    picture(folder / "a.png", 1)
    beside(folder / "a.png.xmp", rating="4")
    run(services, made, folder)
    image_id = services.images.find("a.png")
    (folder / "new").mkdir()
    for name in ("a.png", "a.png.xmp"):
        (folder / name).rename(folder / "new" / name)
    run(services, made, folder)
    assert services.images.find("new/a.png") == image_id
    assert (told(services, "new/a.png").rating, told(services, "new/a.png").sidecar) == (4, "new/a.png.xmp")


def test_a_bucket_is_asked_for_the_sidecars_that_it_lists_and_for_nothing_else(
    services: Services, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = services.settings.model_copy(update={"s3_endpoint_url": s3_server.endpoint_url})
    there = Services(settings, services.engine, None, is_reachable=False)
    pictures = {f"2024/{number}.jpg": jpeg(color=f"#{number}0{number}0{number}0") for number in range(4)}
    s3_server.put(bucket, pictures | {"2024/1.xmp": xmp({"xmp:Rating": "5"}), "2024/9.xmp": xmp({"xmp:Rating": "1"})})
    asked: list[str] = []
    fetch, stat = S3Store.fetch, S3Store.stat
    monkeypatch.setattr(S3Store, "fetch", lambda self, key, *more: asked.append(key) or fetch(self, key, *more))
    monkeypatch.setattr(S3Store, "stat", lambda self, key: asked.append(key) or stat(self, key))
    with worker(there, monkeypatch) as made:
        job = work(there, made, there.jobs.create(f"s3://{bucket}"))
        assert (job.done, job.failed, job.ignored) == (4, 0, 2)
        assert sorted(asked) == sorted([*pictures, "2024/1.xmp", "2024/9.xmp"])
        assert [told(there, key).rating for key in pictures] == [None, 5, None, None]
        asked.clear()
        s3_server.put(bucket, {"2024/1.xmp": xmp({"xmp:Rating": "2"})})
        assert work(there, made, there.jobs.create(f"s3://{bucket}")).skipped == 4
        assert asked == ["2024/1.xmp"]
        assert told(there, "2024/1.jpg").rating == 2


def test_an_ending_that_is_excluded_is_not_read(services: Services, made: Worker, folder: Path) -> None:
    beside(folder / "a.xmp", rating="5")
    job = work(services, made, services.jobs.create(str(folder), selection=Selection(exclude=("*.xmp",))))
    assert (job.done, told(services, "a.jpg").rating) == (3, 1)
    run(services, made, folder)
    assert told(services, "a.jpg").rating == 5


def test_places_in_sidecars_are_not_stored_where_places_are_not_kept(
    services: Services, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = services.settings.model_copy(update={"keep_place": False})
    there = Services(settings, services.engine, None, is_reachable=False)
    (folder / "c.jpg.xmp").write_bytes(
        xmp({"exif:GPSLatitude": "48,12.5N", "exif:GPSLongitude": "16,22.3E", "xmp:Rating": "5"})
    )
    with worker(there, monkeypatch) as made:
        run(there, made, folder)
    assert (told(there, "c.jpg").rating, told(there, "c.jpg").latitude) == (5, None)
    with unit_of_work(there.engine) as session:
        assert session.scalar(text("SELECT facts FROM sidecar")) == {"rating": 5}
