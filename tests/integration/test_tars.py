"""Tar files as an archive, from the listing to the page: their members are images as any others."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from starlette.testclient import TestClient

from ramq.services.dataset_views import BuildRequest
from ramq.web.app import create_app
from storage.errors import NotFoundError, UsageError
from storage.objects.tar_listing import TarScanner
from storage.search.views import SearchQuery
from tests import crop_archive
from tests.same_picture import Photos
from tests.services.command_line import run_here
from tests.services.fleet import client_services
from tests.tar_files import packed
from workers import planner as planner_module

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.fleet import Fleet
    from tests.services.s3 import S3Server
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def png(seed: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(written, "PNG")
    return written.getvalue()


def sample(number: int, seed: int | None = None) -> dict[str, bytes]:
    name = f"{number:06}"
    body = png(number if seed is None else seed)
    return {f"{name}.png": body, f"{name}.json": b"{}", f"{name}.txt": b"a cat %d" % number}


def tar_of(*numbers: int, **changed: int) -> bytes:
    members: dict[str, bytes] = {}
    for number in numbers:
        members |= sample(number, changed.get(f"n{number}"))
    return packed(members)


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """Two tar files of three pictures each, recognised."""
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    root = tmp_path / "set"
    root.mkdir()
    (root / "00000.tar").write_bytes(tar_of(0, 1, 2))
    (root / "00001.tar").write_bytes(tar_of(3, 4, 5))
    (root / "00000.parquet").write_bytes(b"PAR1")
    photos = Photos(services, crop_worker, root, tmp_path / "count")
    job = photos.run(f"tar+{root}", caption=False)
    assert (job.state, job.listed, job.done, job.failed, photos.asked) == ("done", 6, 6, 0, 6)
    assert job.ignored_by_reason == {"sidecar": 13}
    return photos


def keys(photos: Photos) -> list[str]:
    return sorted(photos.ids())


def test_members_are_found_by_key_by_uri_and_by_prefix(photos: Photos) -> None:
    services = photos.services
    assert keys(photos) == [f"{n // 3:05}.tar/{n:06}.png" for n in range(6)]
    (archive,) = services.archives.list()
    assert archive.uri == f"tar+file://{photos.root}"
    image_id = services.images.find("00001.tar/000004.png")
    uri = f"tar+file://{photos.root}/00001.tar/000004.png"
    assert services.images.get(image_id).uri == uri
    assert services.images.find(uri) == image_id
    assert services.images.get(image_id).size_bytes == len(png(4))
    within = services.search.page(SearchQuery(prefix="00001.tar/")).items
    assert sorted(hit.key for hit in within) == keys(photos)[3:]
    below = services.search.page(SearchQuery(archive=f"tar+{photos.root}/00000.tar")).items
    assert sorted(hit.key for hit in below) == keys(photos)[:3]


def test_a_tar_that_was_written_again_is_looked_at_again_and_not_recognised_again(photos: Photos) -> None:
    before = {key: photos.record(image_id) for key, image_id in photos.ids().items()}
    ids = photos.ids()
    (photos.root / "00000.tar").write_bytes(tar_of(2, 1, 0, n1=100))
    job = photos.run(f"tar+{photos.root}", caption=False)
    assert (job.listed, job.done, job.copied, job.skipped, photos.asked) == (6, 3, 2, 3, 1)
    assert photos.ids() == ids
    after = {key: photos.record(image_id) for key, image_id in photos.ids().items()}
    assert [key for key in before if before[key] != after[key]] == ["00000.tar/000001.png"]
    assert photos.run(f"tar+{photos.root}", caption=False).skipped == 6


def test_a_data_set_that_was_packed_anew_keeps_its_images(photos: Photos) -> None:
    before = {key.rpartition("/")[2]: image_id for key, image_id in photos.ids().items()}
    for path in photos.root.glob("*.tar"):
        path.unlink()
    (photos.root / "part-0.tar").write_bytes(tar_of(5, 3, 1))
    (photos.root / "part-1.tar").write_bytes(tar_of(0, 2, 4))
    job = photos.run(f"tar+{photos.root}", caption=False)
    assert (job.done, job.failed, photos.asked) == (6, 0, 0)
    assert {key.rpartition("/")[2]: image_id for key, image_id in photos.ids().items()} == before
    assert photos.missing() == []


def test_a_tar_that_is_overwritten_between_listing_and_reading_gives_its_new_pictures(photos: Photos) -> None:
    job = photos.services.jobs.create(f"tar+{photos.root}", caption=False)
    (photos.root / "00002.tar").write_bytes(tar_of(6, 7, 8))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    (photos.root / "00002.tar").write_bytes(tar_of(7, 6, n6=60))
    job = crop_archive.work(photos.services, photos.worker, job)
    assert (job.done, job.failed, job.failures_by_class) == (2, 1, {"missing": 1})
    content = photos.services.images.content(photos.ids()["00002.tar/000006.png"])
    assert content == png(60)
    (photos.root / "00002.tar").write_bytes(tar_of(7, 6, n6=61) + bytes(10_240))
    with pytest.raises(Exception, match="enqueue its archive again"):
        photos.services.images.content(photos.ids()["00002.tar/000006.png"])


def test_what_is_wrong_with_a_tar_is_a_failure_that_says_it(photos: Photos) -> None:
    whole = (photos.root / "00001.tar").read_bytes()
    (photos.root / "00001.tar").write_bytes(whole[:-12_000])
    (photos.root / "00002.tar.gz").write_bytes(b"\x1f\x8b")
    (photos.root / "00003.tar").write_bytes(packed({"../up.png": png(9), "no.png": b"none", "ok.png": png(10)}))
    job = photos.run(f"tar+{photos.root}", caption=False)
    assert job.failures_by_class == {"bad_key": 1, "bad_tar": 2, "not_an_image": 1}
    failed = {view.key: view.detail for view in photos.services.jobs.failures(job.id).items}
    assert "cut short at byte" in failed["00001.tar/"]
    assert "compressed with gzip" in failed["00002.tar.gz"]
    assert "leads out of the tar file" in failed["00003.tar/../up.png"]
    again = photos.run(f"tar+{photos.root}", caption=False)
    assert (again.failed, again.skipped) == (0, again.listed)
    (photos.root / "00001.tar").write_bytes(whole)
    mended = photos.run(f"tar+{photos.root}", caption=False)
    assert (mended.failed, photos.scalar("SELECT count(*) FROM image WHERE key LIKE '00001.tar/%.png'")) == (0, 3)


def test_failures_of_members_are_retried(photos: Photos) -> None:
    (photos.root / "00002.tar").write_bytes(packed({"a.png": b"no picture"}))
    job = photos.run(f"tar+{photos.root}", caption=False)
    assert job.failures_by_class == {"not_an_image": 1}
    again = crop_archive.work(photos.services, photos.worker, photos.services.jobs.retry(job.id, "not_an_image"))
    assert again.failures_by_class == {"not_an_image": 1}


def test_members_that_are_gone_are_missing_and_erased_ones_come_again(photos: Photos) -> None:
    (photos.root / "00001.tar").write_bytes(tar_of(3))
    photos.run(f"tar+{photos.root}", caption=False)
    assert photos.missing() == ["00001.tar/000004.png", "00001.tar/000005.png"]
    photos.services.erasures.delete_below("00000.tar/")
    assert keys(photos) == ["00001.tar/000003.png"]
    assert (photos.root / "00000.tar").read_bytes() == tar_of(0, 1, 2)
    job = photos.run(f"tar+{photos.root}", caption=False)
    assert (job.done, job.skipped) == (3, 1)


def test_one_tar_or_a_part_of_it_is_a_source_too(photos: Photos) -> None:
    job = photos.run(f"tar+{photos.root}/00001.tar", caption=False)
    assert (job.listed, job.skipped) == (3, 3)
    assert photos.missing() == []
    alone = photos.root / "alone"
    alone.mkdir()
    (alone / "x.tar").write_bytes(packed({"in/a.png": png(20), "b.png": png(21)}))
    fresh = photos.services.jobs.create(f"tar+{alone}/x.tar/in", caption=False)
    assert (fresh.source, crop_archive.work(photos.services, photos.worker, fresh).listed) == (
        f"tar+file://{alone}/x.tar/in",
        1,
    )
    with pytest.raises(NotFoundError, match="there is no tar file"):
        photos.services.jobs.create(f"tar+{photos.root}/none.tar")


def test_a_list_names_members(photos: Photos, tmp_path: Path) -> None:
    (photos.root / "00002.tar").write_bytes(tar_of(6, 7, 8))
    table = tmp_path / "set" / "chosen.parquet"
    names = ["00002.tar/000007.png", f"tar+file://{photos.root}/00000.tar/000000.png", "00002.tar/none.png"]
    parquet.write_table(pa.table({"key": names, "url": ["https://example.org/x.jpg"] * 3}), table)
    job = photos.run(f"tar+{table}", caption=False)
    assert (job.listed, job.done, job.skipped, job.failures_by_class) == (3, 1, 1, {"missing": 1})
    assert (job.archive, photos.asked) == (f"tar+file://{photos.root}", 1)
    parquet.write_table(pa.table({"key": names[:2]}), table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TarScanner, "scan", None)  # what was listed is known by its place
        assert photos.run(f"tar+{table}", caption=False).skipped == 2
    (photos.root / "00000.tar").write_bytes(tar_of(2, 0))
    job = photos.run(f"tar+{table}", caption=False)
    assert (job.skipped, job.done, job.copied, photos.asked) == (1, 1, 1, 0)
    assert photos.run(f"tar+{table}", caption=False).skipped == 2
    for text, said in (
        ("0.jpg\n", "no member of a tar file"),
        ("s3://bucket/x.tar/1.jpg\n00000.tar/1.jpg\n", "mixes archives"),
    ):
        (tmp_path / "set" / "wrong.txt").write_text(text)
        with pytest.raises(UsageError, match=said):
            photos.services.jobs.create(f"tar+{tmp_path}/set/wrong.txt")
    (tmp_path / "set" / "wrong.txt").write_text("tar+s3://bucket/x.tar/1.jpg\n")
    with pytest.raises(UsageError, match=r"write tar\+ before the address of this list"):
        photos.services.jobs.create(f"{tmp_path}/set/wrong.txt")


def test_the_page_and_the_api_show_members(photos: Photos) -> None:
    client = TestClient(create_app(photos.services), base_url="http://localhost", raise_server_exceptions=False)
    image_id = photos.ids()["00001.tar/000004.png"]
    original = client.get(f"/v1/images/{image_id}/original")
    assert (original.status_code, original.content) == (200, png(4))
    assert original.headers["content-disposition"] == "inline; filename*=UTF-8''000004.png"
    part = client.get(f"/v1/images/{image_id}/original", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, png(4)[10:20])
    assert client.get(f"/v1/images/{image_id}/thumbnail").headers["content-type"] == "image/jpeg"
    assert "00001.tar/000004.png" in client.get(f"/images/{image_id}").text
    found: dict[str, Any] = client.get("/v1/search", params={"prefix": "00001.tar/"}).json()
    assert len(found["items"]) == 3
    assert "00001.tar" in client.get("/").text  # a facet of folders
    started = client.post("/v1/jobs", json={"source": f"tar+{photos.root}"})
    assert (started.status_code, started.json()["source"]) == (201, f"tar+file://{photos.root}")
    assert client.post("/v1/jobs", json={"source": "tar+./set"}).status_code == 422
    form = client.post("/jobs", data={"source": f"tar+{photos.root}"}, headers={"origin": "http://localhost"})
    assert f"tar+file://{photos.root}" in client.get("/jobs").text
    assert form.status_code < 400
    (photos.root / "00001.tar").write_bytes(tar_of(3))
    changed = client.get(f"/v1/images/{image_id}/original")
    assert (changed.status_code, changed.json()["detail"]) == (
        422,
        "the tar file was overwritten since it was listed: enqueue its archive again",
    )
    (photos.root / "00001.tar").unlink()
    assert client.get(f"/v1/images/{image_id}/original").status_code == 422


def test_tar_files_in_a_bucket_are_read_with_their_version(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put(bucket, {"laion/00000.tar": tar_of(0, 1, 2), "laion/00001.tar": tar_of(3), "other/0.tar": b"x"})
    with client_services(s3_settings) as services, crop_archive.crop_worker(services, monkeypatch) as worker:
        photos = Photos(services, worker, tmp_path, tmp_path / "count")
        job = photos.run(f"tar+s3://{bucket}/laion", caption=False)
        assert (job.state, job.listed, job.done, job.failed) == ("done", 4, 4, 0)
        assert keys(photos) == [f"laion/{n // 3:05}.tar/{n:06}.png" for n in range(4)]
        image_id = services.images.find(f"tar+s3://{bucket}/laion/00000.tar/000001.png")
        assert services.images.content(image_id) == png(1)
        s3_server.put(bucket, {"laion/00000.tar": tar_of(2, 1, 0, n1=100)})
        with pytest.raises(Exception, match="enqueue its archive again"):
            services.images.content(image_id)
        again = photos.run(f"tar+s3://{bucket}/laion", caption=False)
        assert (again.done, again.copied, again.skipped) == (3, 2, 1)
        assert services.images.content(image_id) == png(100)
        s3_server.put(bucket, {"laion/chosen.txt": b"laion/00000.tar/000002.png\nlaion/00001.tar/000003.png\n"})
        chosen = photos.run(f"tar+s3://{bucket}/laion/chosen.txt", caption=False)
        assert (chosen.listed, chosen.skipped) == (2, 2)


def test_a_listing_that_is_interrupted_after_every_page_lists_every_member_once(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, numbers in {"0.tar": (50, 51), "0.tar-1.tar": (52,), "0.tar-1/2.tar": (53, 54)}.items():
        (photos.root / name).parent.mkdir(exist_ok=True)
        (photos.root / name).write_bytes(tar_of(*numbers))
    monkeypatch.setattr("storage.objects.tar_listing.PAGE_SIZE", 2)
    monkeypatch.setattr(planner_module, "TAR_STEP_SECONDS", 0.0)
    job = photos.services.jobs.create(f"tar+{photos.root}", caption=False)
    planner = photos.worker._planner
    while planner.begin(lambda: True) or planner.go_on(lambda: True):
        planner._readings.clear()  # as if another worker went on
    job = crop_archive.work(photos.services, photos.worker, job)
    assert (job.listed, job.done, job.skipped, job.ignored) == (11, 5, 6, 23)
    assert photos.missing() == []


def run(settings: Settings, *words: str) -> CompletedProcess[str]:
    environment = {
        "RAMQ_DATABASE_URL": settings.database_url or "",
        "RAMQ_BROKER_URL": settings.broker_url or "",
        "RAMQ_DATA_DIR": str(settings.data_dir),
    }
    return run_here(words, environment)


def test_the_command_line_takes_tar_files(settings: Settings, fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    root = tmp_path / "set"
    root.mkdir()
    (root / "00000.tar").write_bytes(tar_of(0, 1, 2))
    done = run(settings, "enqueue", f"tar+{root}", "--wait")
    assert done.returncode == 0, done.stderr
    assert "listed 3 = done 3" in done.stderr
    shown = json.loads(run(settings, "show", "00000.tar/000001.png", "--json").stdout)
    assert shown["uri"] == f"tar+file://{root}/00000.tar/000001.png"
    exported = run(settings, "export", "--format", "jsonl", "--prefix", "00000.tar/")
    assert exported.stdout.count("00000.tar/0000") >= 3, exported.stderr
    (root / "0.tar").write_bytes(b"no tar")
    checked = run(settings, "doctor", "--source", f"tar+{root}")
    assert "can be listed and read" in checked.stdout, checked.stdout + checked.stderr
    gone = run(settings, "delete", "--prefix", "00000.tar/", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert json.loads(run(settings, "search", "--prefix", "00000.tar/", "--json").stdout)["items"] == []
    wrong = run(settings, "enqueue", f"tar+{root}/none.txt")
    assert wrong.returncode == 2


def test_texts_beside_members_are_captions_of_a_data_set(photos: Photos) -> None:
    version = photos.services.datasets.build("set", BuildRequest(sources=(f"tar+{photos.root}",)))
    captions = photos.rows("SELECT captions FROM dataset_item WHERE version_id = :id ORDER BY image_id", id=version.id)
    assert [row.captions for row in captions] == [[f"a cat {number}"] for number in range(6)]
    table = photos.root.parent / "told.csv"
    names = (
        "00000.tar/000000.png",
        f"{photos.root}/00000.tar/000001.png",
        f"tar+file://{photos.root}/00001.tar/000003",
    )
    table.write_text("path,caption\n" + "".join(f"{name},told\n" for name in names))
    request = BuildRequest(sources=(f"tar+{photos.root}",), captions=str(table))
    told = photos.services.datasets.build("told", request)
    found = photos.scalar(
        "SELECT count(*) FROM dataset_item WHERE version_id = :id AND 'told' = ANY(captions)", id=told.id
    )
    assert found == len(names)
