"""The proof of a deletion while the shadow, or the index, cannot be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ramq.doctor import examine
from ramq.services.shadow import ShadowClient
from storage.errors import ServiceUnavailableError
from tests.services.command_line import run_here
from tests.services.web import services_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

AWAY = {
    "milvus+http://ramq:their-password@127.0.0.1:9/ramq": (
        "Milvus cannot be reached at http://127.0.0.1:9 (RAMQ_SHADOW_INDEX_URL)"
    ),
    "ftp://ramq:their-password@host/shadow": (
        "the index cannot be kept at ftp://ramq:***@host/shadow: RAMQ_SHADOW_INDEX_URL must be file:///folder or s3://"
    ),
}


@pytest.fixture
def services(client: TestClient) -> Services:
    return services_of(client)


def environment_of(services: Services, **more: str) -> dict[str, str]:
    return {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        **more,
    }


@pytest.mark.parametrize("url", AWAY)
def test_a_shadow_that_is_away_is_told_in_the_report_which_has_all_the_rest(
    services: Services, tmp_path: Path, url: str
) -> None:
    environment, report = environment_of(services, RAMQ_SHADOW_INDEX_URL=url), tmp_path / "erased.json"
    done = run_here(["delete", "3", "--yes", "--report", str(report)], environment)
    assert done.returncode == 0, done.stderr
    proof = json.loads(report.read_text())
    number = proof["deletion"]["id"]
    [unasked] = [trace for trace in proof["traces"] if trace["left"] is None]
    assert (unasked["place"], proof["is_clean"]) == ("the shadow of the index", False)
    again = f"when this is mended, ask again: `ramq erasures {number} --verify`"
    assert unasked["remedy"].startswith(AWAY[url])
    assert unasked["remedy"].endswith(again)
    assert all(trace["left"] == 0 for trace in proof["traces"] if trace != unasked)
    assert f"deletion {number}: not proved for the shadow of the index: {AWAY[url]}" in done.stderr
    told = run_here(["erasures", str(number), "--verify"], environment)
    assert told.returncode == 1
    assert f"deletion {number}: not proved for the shadow of the index: {AWAY[url]}" in told.stdout
    assert again in told.stdout
    assert "their-password" not in done.stderr + told.stdout + report.read_text()
    mended = run_here(["erasures", str(number), "--verify"], environment_of(services))
    assert (mended.returncode, mended.stdout.splitlines()[-1]) == (0, f"deletion {number}: nothing left")


def test_an_index_that_is_away_leaves_the_report_of_the_tables(services: Services) -> None:
    done = services.erasures.delete([3])
    index = services.settings.data_dir / "index"
    index.rename(index.with_name("elsewhere"))
    index.write_text("in the way")
    report = services.erasures.verify(done.deletion_id)
    unasked = {trace.place: trace.remedy for trace in report.traces if trace.left is None}
    assert list(unasked) == ["files of the index and of features"]
    assert "(RAMQ_INDEX_URL) failed" in unasked["files of the index and of features"]
    assert not report.is_clean
    assert {trace.left for trace in report.traces if trace.place.startswith("table ")} == {0}


def test_a_place_that_does_not_answer_is_asked_once_for_all_deletions(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image_id in (3, 4):
        services.erasures.delete([image_id])
    asked = []

    def silent(_client: ShadowClient, ids: object) -> None:
        asked.append(ids)
        raise ServiceUnavailableError("no answer")

    monkeypatch.setattr(ShadowClient, "traces", silent)
    told = run_here(["erasures", "--verify", "--json"], environment_of(services))
    reports = json.loads(told.stdout)["items"]
    first, second = ([trace for trace in each["traces"] if trace["left"] is None] for each in reports)
    assert first[0]["remedy"].startswith("no answer; ")
    assert second[0]["remedy"].startswith("no answer; ")
    assert len(asked) == 1


def test_doctor_names_the_setting_of_the_shadow(services: Services) -> None:
    url = services.engine.url.render_as_string(hide_password=False)
    for shadow, said in AWAY.items():
        away = services.settings.model_copy(update={"database_url": url, "shadow_index_url": shadow})
        [finding] = [each for each in examine(away) if each.name == "shadow"]
        assert finding.state == "fault"
        assert finding.detail.startswith(said)
        assert finding.next == "env | grep RAMQ_SHADOW_INDEX_URL"
