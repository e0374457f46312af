"""Writing beside a picture whose sidecar has another name: what people wrote there is completed, and stays found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.services.sidecars import Naming, SidecarPlace, Written, write_sidecars
from ramq.wiring import Services
from storage.search.views import SearchQuery
from tests.integration.test_read_sidecars import beside, keys, run, told
from tests.metadata_archive import work, worker
from tests.same_picture import picture
from tests.told_by_files import xmp

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.s3 import S3Server
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture(tmp_path / "photos" / "cow.png", 1).parent


def write(services: Services, allow: tuple[str, ...] = (), naming: Naming = "full") -> tuple[Written, list[str]]:
    failed: list[str] = []
    _, hits = services.search.export(SearchQuery())
    place = SidecarPlace(None, allow, services.settings.s3, services.engine)
    return write_sidecars(hits, place, lambda _, why: failed.append(why), naming=naming), failed


def tag(services: Services, key: str, name: str) -> None:
    services.corrections.tag([services.images.find(key)], add=[name])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".xmp")


@pytest.mark.parametrize("name", ["cow.xmp", "cow.XMP", "cow.png.XMP"])
def test_the_sidecar_of_a_picture_alone_is_completed_under_its_own_name(
    services: Services, made: Worker, folder: Path, name: str
) -> None:
    beside(folder / name, rating="5", keywords=["milk"], title=["Berta"])
    run(services, made, folder)
    tag(services, "cow.png", "tag 1")
    found, failed = write(services)
    assert (found.written, found.left_out, failed) == (1, 0, [])
    assert names(folder) == [name]
    assert b"tag 1" in (folder / name).read_bytes()
    run(services, made, folder)
    cow = told(services, "cow.png")
    assert (cow.rating, cow.keywords, cow.title, cow.sidecar) == (5, ["milk"], "Berta", name)
    assert keys(services, "keyword:milk") == {"cow.png"}
    found, _ = write(services)
    assert (found.written, found.unchanged) == (0, 1)


def test_a_sidecar_of_several_pictures_is_the_beginning_of_that_of_each(
    services: Services, made: Worker, folder: Path
) -> None:
    picture(folder / "cow.bmp", 2)
    beside(folder / "cow.xmp", rating="5", keywords=["milk"])
    before = (folder / "cow.xmp").read_bytes()
    run(services, made, folder)
    tag(services, "cow.png", "tag 1")
    services.corrections.tag([services.images.find("cow.bmp")], add=["tag 2"], remove=["tag 1"])
    found, _ = write(services)
    assert found.written == 2
    assert names(folder) == ["cow.bmp.xmp", "cow.png.xmp", "cow.xmp"]
    assert (folder / "cow.xmp").read_bytes() == before
    assert b"tag 1<" in (folder / "cow.png.xmp").read_bytes()
    assert b"tag 1<" not in (folder / "cow.bmp.xmp").read_bytes()
    run(services, made, folder)
    for key in ("cow.png", "cow.bmp"):
        cow = told(services, key)
        assert (cow.rating, cow.keywords, cow.sidecar) == (5, ["milk"], f"{key}.xmp")
    assert write(services)[0].unchanged == 2


def test_a_picture_that_is_gone_shares_no_sidecar(services: Services, made: Worker, folder: Path) -> None:
    picture(folder / "cow.bmp", 2)
    beside(folder / "cow.xmp", rating="5")
    run(services, made, folder)
    (folder / "cow.bmp").unlink()
    run(services, made, folder)
    tag(services, "cow.png", "tag 1")
    found, failed = write(services)
    assert (found.written, len(failed)) == (1, 1)
    assert names(folder) == ["cow.xmp"]


def test_lightroom_gets_its_name_with_the_words_that_were_under_the_other(
    services: Services, made: Worker, folder: Path
) -> None:
    (folder / "cow.png").rename(folder / "cow.nef")
    beside(folder / "cow.nef.xmp", rating="5", keywords=["milk"])
    run(services, made, folder)
    tag(services, "cow.nef", "tag 1")
    write(services, naming="lightroom")
    assert names(folder) == ["cow.nef.xmp", "cow.xmp"]
    assert b"milk" in (folder / "cow.xmp").read_bytes()
    assert b"tag 1" in (folder / "cow.xmp").read_bytes()


def test_a_sidecar_of_another_name_that_is_no_xmp_is_named_and_nothing_is_written(
    services: Services, made: Worker, folder: Path
) -> None:
    (folder / "cow.xmp").write_bytes(b"no XMP")
    run(services, made, folder)
    tag(services, "cow.png", "tag 1")
    found, failed = write(services)
    assert (found.written, found.left_out, len(failed)) == (0, 1, 1)
    assert names(folder) == ["cow.xmp"]


def test_in_a_bucket_too(
    services: Services, s3_server: S3Server, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = services.settings.model_copy(update={"s3_endpoint_url": s3_server.endpoint_url})
    there = Services(settings, services.engine, None, is_reachable=False)
    body = (folder / "cow.png").read_bytes()
    told_by_hand = xmp({"xmp:Rating": "5", "dc:subject": ["milk"]})
    s3_server.put(bucket, {"2024/cow.png": body, "2024/cow.xmp": told_by_hand})
    with worker(there, monkeypatch) as made:
        work(there, made, there.jobs.create(f"s3://{bucket}"))
        tag(there, "2024/cow.png", "tag 1")
        found, failed = write(there, (f"s3://{bucket}",))
        assert (found.written, failed) == (1, [])
        work(there, made, there.jobs.create(f"s3://{bucket}"))
        cow = told(there, "2024/cow.png")
        assert (cow.rating, cow.keywords, cow.sidecar) == (5, ["milk"], "2024/cow.xmp")
    client = s3_server.client()
    listed = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == ["2024/cow.png", "2024/cow.xmp"]
    assert b"tag 1" in client.get_object(Bucket=bucket, Key="2024/cow.xmp")["Body"].read()
    client.close()
