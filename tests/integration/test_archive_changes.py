"""Archives that move and archives that go, through the library, the API and the page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from storage.errors import ConflictError, ForbiddenError, NotFoundError, UsageError
from tests.services.recognised import PHOTOGRAPHS
from tests.services.watch import scalar
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services


@pytest.fixture
def ours(client: TestClient) -> Services:
    return services_of(client)


@pytest.fixture
def moved(archive: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "moved"
    shutil.copytree(archive, copy)
    return copy


def test_an_archive_that_moved_keeps_its_results_and_is_read_where_it_is_now(
    client: TestClient, ours: Services, moved: Path
) -> None:
    before = client.get("/v1/search", params={"tag": "Egyptian cat"}).json()
    answer = client.patch("/v1/archives/1", json={"uri": str(moved)})
    assert (answer.status_code, answer.json()["uri"]) == (200, f"file://{moved}")
    assert answer.json()["recorded"] == PHOTOGRAPHS + 1
    after = client.get("/v1/search", params={"tag": "Egyptian cat"}).json()
    assert [hit["image_id"] for hit in after["items"]] == [hit["image_id"] for hit in before["items"]]
    assert {hit["archive"] for hit in after["items"]} == {f"file://{moved}"}
    (moved / "chelsea.png").write_bytes(b"another")
    image_id = ours.images.find("chelsea.png")
    assert client.get(f"/v1/images/{image_id}/original").content == b"another"
    job = ours.jobs.create(str(moved))
    assert job.archive == f"file://{moved}"


def test_an_address_that_is_taken_empty_of_another_kind_or_not_allowed_is_refused(
    ours: Services, make_client: Callable[..., TestClient], archive: Path, tmp_path: Path
) -> None:
    rename = ours.archives.rename
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConflictError, match=r"none of the 17 checked images .* check the address"):
        rename("1", str(tmp_path / "empty"))
    forced = rename("1", str(tmp_path / "empty"), force=True)
    assert (forced.uri, forced.recorded) == (f"file://{tmp_path / 'empty'}", PHOTOGRAPHS + 1)
    rename("1", str(archive))
    with pytest.raises(UsageError, match="of another kind"):
        rename("1", "s3://bucket")
    with pytest.raises(NotFoundError):
        rename("1", str(tmp_path / "nowhere"))
    with pytest.raises(NotFoundError):
        rename("99", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="is only a part of archive 1"):
        rename(f"{archive}/odd", str(tmp_path / "empty"))
    other = ours.jobs.create(str(tmp_path / "empty"))
    with pytest.raises(ConflictError, match="archive 2 already has the address"):
        rename("1", str(tmp_path / "empty"), force=True)
    with pytest.raises(ConflictError, match=f"job {other.id} on this archive has not ended"):
        rename("2", str(archive), force=True)
    strict = services_of(make_client(archive_allow=(str(archive),)))
    with pytest.raises(ForbiddenError):
        strict.archives.rename("1", str(tmp_path / "empty"), force=True)


def test_the_keys_of_a_bucket_begin_with_the_archives_prefix_and_stay_so(ours: Services) -> None:
    scalar(ours, "UPDATE archive SET uri = 's3://old/2024' RETURNING id")
    with pytest.raises(UsageError, match="start with 'years/2024' instead of '2024'"):
        ours.archives.rename("1", "s3://new/years/2024")


def test_a_removed_archive_leaves_nothing_behind_but_the_report(client: TestClient, ours: Services) -> None:
    client.put("/v1/policies/tabby", json={"kind": "deny"}, params={"archive": "1"})
    answer = client.delete("/v1/archives/1")
    report: dict[str, Any] = answer.json()
    assert (answer.status_code, report["images"]) == (200, PHOTOGRAPHS + 3)
    assert client.get("/v1/archives").json()["items"] == []
    assert client.get("/v1/jobs").json()["items"] == []
    assert client.get("/v1/policies").json()["items"] == []
    assert client.get("/v1/search").json()["total"] == 0
    for table in ("image", "record", "vector", "failure", "shard", "skip", "notice", "job", "archive"):
        assert scalar(ours, f"SELECT count(*) FROM {table}") == 0, table
    proof = ours.erasures.verify(report["deletion_id"])
    assert (proof.deletion.archive, proof.deletion.kind) == (None, "archive")
    assert not [trace for trace in proof.traces if trace.left and "files of the index" not in trace.place]
    assert_problem(client.delete("/v1/archives/1"), 404, "not-found")


def test_an_archive_with_an_open_job_is_not_removed(client: TestClient, ours: Services, archive: Path) -> None:
    job = ours.jobs.create(str(archive))
    problem = assert_problem(client.delete("/v1/archives/1"), 409, "conflict")
    assert f"ramq cancel {job.id}" in problem["detail"]
    assert client.get("/v1/search").json()["total"] == PHOTOGRAPHS + 1
    ours.jobs.cancel(job.id)
    assert client.delete("/v1/archives/1").status_code == 200


def test_the_page_renames_and_removes(client: TestClient, moved: Path) -> None:
    told = client.post("/archives/1/rename", data={"to": str(moved)}).text
    assert f"Archive 1 is now at file://{moved}." in told
    refused = client.post("/archives/1/rename", data={"to": "relative"})
    assert refused.status_code == 422
    assert "is a relative path" in refused.text
    told = client.post("/archives/1/remove").text
    assert f"erased the results of {PHOTOGRAPHS + 3} images" in told
    assert "No archives yet" in told
