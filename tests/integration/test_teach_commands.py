"""Teaching on the command line and over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.web.turns import Turns
from ramq.wiring import Services
from storage.texts import visible
from tests.services.command_line import run_here
from tests.services.recognised import settings_for
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def ids(recognised_engine: Engine) -> dict[str, int]:
    """Numbers of the recognised photographs by key."""
    with recognised_engine.connect() as connection:
        rows = connection.execute(text("SELECT key, id FROM image JOIN record ON image_id = id ORDER BY key"))
        return {row.key: row.id for row in rows}


@pytest.fixture
def run(recognised_engine: Engine, stage: Path) -> Run:
    """Runs a command on the recognised photographs, beside whose index their features are."""
    environment = {
        "RAMQ_USER": "ann",
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": "redis://127.0.0.1:1/0",
        "RAMQ_DATA_DIR": str(stage / "data"),
    }
    return lambda *words: run_here(words, environment)


@pytest.fixture
def client(recognised_engine: Engine, stage: Path) -> TestClient:
    services = Services(settings_for(stage / "data"), recognised_engine, None, is_reachable=False)
    return TestClient(create_app(services), base_url="http://localhost", raise_server_exceptions=False)


def test_a_tag_is_shown_before_it_is_applied(run: Run, ids: dict[str, int], tmp_path: Path) -> None:
    keys = [key for key in ids if key.isprintable()][:6]
    listed = tmp_path / "yes.txt"
    listed.write_text("\n".join(keys[:4]) + "\n")
    words = ["teach", "my thing", "--yes", f"@{listed}", "--yes", str(ids[keys[4]]), "--no", keys[5]]
    shown = run(*words)
    assert shown.returncode == 0, shown.stderr
    assert "5 yes, 1 no" in shown.stderr
    assert "the precision is between" in shown.stderr
    assert "Nothing was changed" in shown.stderr
    assert "no such tag" in shown.stdout
    told = json.loads(run(*words, "--precision", "0.6", "--json").stdout)
    [report] = told["items"]
    assert (report["tag"], report["is_new"], report["yes"], report["asked"]) == ("my thing", True, 5, 0.6)
    assert (told["vocabulary"], told["jobs"]) == (None, [])
    assert json.loads(run("teach", "--list", "--json").stdout) == {"items": []}
    applied = json.loads(run(*words, "--apply", "--json").stdout)
    assert applied["vocabulary"] == "imagenet-taught-1"
    [job] = applied["jobs"]
    assert (job["vocabulary"], job["from_generation_id"], job["state"]) == ("imagenet-taught-1", 1, "running")
    [taught] = json.loads(run("teach", "--list", "--json").stdout)["items"]
    assert (taught["tag"], taught["yes"], taught["no"], taught["said_by"]) == ("my thing", 5, 1, "ann")
    assert taught["report"]["after"]["precision"]["low"] >= 0
    assert "my thing" in run("teach", "--list").stdout
    # What was said is kept, also for a tag that search does not know yet.
    assert "my thing" in json.loads(run("teach", "--from-corrections", "--json").stdout)["items"][0]["tag"]
    assert "my thing" in run("vocab", "show", "imagenet-taught-1").stdout


def test_images_to_label_are_named(run: Run, ids: dict[str, int]) -> None:
    first = next(iter(ids.values()))
    told = json.loads(run("teach", "my thing", "--yes", str(first), "--suggest", "3", "--json").stdout)
    assert len(told["images"]) == 3
    assert first not in {one["image_id"] for one in told["images"]}
    assert "name 4 more" in told["advice"]
    shown = run("teach", "my thing", "--yes", str(first), "--suggest", "3")
    assert "name 4 more" in shown.stderr
    assert "`ramq teach 'my thing' --yes IMAGE --no IMAGE`" in shown.stderr
    head, *rows = shown.stdout.splitlines()
    assert head.split() == ["image", "score", "key"]
    keys = {number: key for key, number in ids.items()}
    assert all(visible(keys[int(row.split()[0])]) in row for row in rows)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give a TAG"),
        (["a", "--from-corrections"], "give a TAG"),
        (["--list", "--suggest", "3"], "--suggest needs a TAG"),
        (["a", "--yes", "nowhere.png"], "nowhere.png"),
        (["a", "--yes", "@nowhere.txt"], "nowhere.txt cannot be read"),
        (["a", "--yes", "1"], "needs 5 pictures"),
        (["--from-corrections"], "no tag was added to 5 images"),
        (
            ["a", "--yes", "1", "--suggest", "3", "--apply", "--wait"],
            "--apply and --wait cannot be used",
        ),
        (["a", "--yes", "1", "--suggest", "3", "--precision", "0.8"], "--precision cannot be used with --suggest"),
        (["a", "--yes", "1", "--suggest", "3", "--skip-missing"], "--skip-missing cannot be used with --suggest"),
        (["--from-corrections", "--yes", "1", "--no", "2"], "--no and --yes cannot be used with --from-corrections"),
        (["--list", "--yes", "1"], "--yes cannot be used with --list"),
        (["a", "--yes", "1", "--least", "6"], "--least cannot be used with TAG"),
        (["a", "--yes", "1", "--wait"], "add --apply"),
        (["a", "--yes", "1", "--skip-missing"], "add --apply"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run: Run, words: list[str], complaint: str) -> None:
    done = run("teach", *words)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_the_api_teaches_lists_and_suggests(client: TestClient, ids: dict[str, int]) -> None:
    numbers = list(ids.values())
    body: dict[str, Any] = {"tag": {"tag": "my thing", "yes": numbers[:5], "no": numbers[5:7]}, "precision": 0.8}
    shown = client.post("/v1/teach", json=body)
    assert shown.status_code == 200, shown.text
    assert shown.json()["vocabulary"] is None
    assert client.get("/v1/teach").json()["items"] == []
    applied = client.post("/v1/teach", json=body | {"apply": True}).json()
    assert (applied["vocabulary"], len(applied["jobs"])) == ("imagenet-taught-1", 1)
    assert [tag["tag"] for tag in client.get("/v1/teach").json()["items"]] == ["my thing"]
    told = client.post("/v1/teach/suggestions", json={"tag": "my thing", "count": 2}).json()
    assert (told["yes"], len(told["images"])) == (5, 2)  # by the answers that were kept
    together = client.post("/v1/teach", json={"least": 5}).json()
    assert [report["tag"] for report in together["reports"]] == ["my thing"]
    few = client.post("/v1/teach", json={"tag": {"tag": "other", "yes": numbers[:2]}})
    assert (few.status_code, "needs 5 pictures" in few.json()["detail"]) == (422, True)
    for wrong in ({"precision": 2}, {"apply": 1}, {"tag": {"tag": "other", "yes": [1.0]}}, {"least": "5"}):
        assert client.post("/v1/teach", json=wrong).status_code == 422, wrong


def test_the_page_is_there_before_anything_is_computed(
    client: TestClient, ids: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = {"tag": "my thing", "yes": list(ids.values())[:5]}
    teaching = services_of(client).teaching
    calls: list[str] = []
    study = teaching.study
    monkeypatch.setattr(teaching, "study", lambda *given, **named: (calls.append("study"), study(*given, **named))[1])
    shown = client.get("/teach", params=lesson)
    assert (shown.status_code, "Computing" in shown.text, calls) == (200, True, [])
    whole = client.get("/teach", params=lesson | {"whole": "yes"})
    assert (whole.status_code, "Computing" in whole.text, calls) == (200, False, ["study"])
    assert "5 pictures: the precision is between" in whole.text
    assert "to-label" in whole.text


def test_the_page_knows_what_people_said_before(client: TestClient, ids: dict[str, int]) -> None:
    services_of(client).corrections.tag(list(ids.values())[:3], add=["espresso"])
    shown = client.get("/teach", params={"tag": "espresso", "whole": "yes"}).text
    assert "3 of 5 pictures that show it are chosen" in shown
    assert "3 yes, 0 no" in shown


def test_the_page_tells_what_search_did_not_understand(client: TestClient) -> None:
    shown = client.get("/teach", params={"tag": "my thing", "q": "tag:espreso"}).text
    assert "Unknown tag &#34;espreso&#34;. Did you mean espresso" in shown


def test_a_tag_that_gains_nothing_is_not_recommended(
    client: TestClient, ids: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    teaching = services_of(client).teaching
    numbers = list(ids.values())
    report, found = teaching.study("espresso", 2, yes=numbers[:5])
    assert report is not None
    same = replace(report, is_new=False, before=report.after)
    assert (same.gains_nothing, replace(same, before=None).gains_nothing) == (True, False)
    monkeypatch.setattr(teaching, "study", lambda *_, **__: (same, found))
    shown = client.get("/teach", params={"tag": "espresso", "yes": numbers[:5], "whole": "yes"}).text
    assert "This gains nothing" in shown
    assert '<button class="plain">Apply to all images anyway</button>' in shown


def test_one_lesson_is_computed_at_a_time(client: TestClient, ids: dict[str, int]) -> None:
    turns = Turns(waiting=0)
    client.app.state.teaching_turns = turns  # type: ignore[attr-defined]  # it is a FastAPI
    body = {"tag": "my thing", "yes": list(ids.values())[:5]}
    with turns.turn():
        assert_problem(client.post("/v1/teach", json={"tag": body}), 429, "too-many-requests")
        assert_problem(client.post("/v1/teach/suggestions", json=body), 429, "too-many-requests")
        shown = client.get("/teach", params=body | {"whole": "yes"}, headers={"accept": "text/html"})
        assert (shown.status_code, "Try again in a minute" in shown.text) == (429, True)
    assert client.post("/v1/teach/suggestions", json=body).status_code == 200


def test_a_request_teaches_a_few_tags_and_names_the_command_for_more(
    client: TestClient, ids: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    services_of(client).corrections.tag(list(ids.values())[:5], add=["canoe", "espresso"])
    monkeypatch.setattr("ramq.web.api.teaching.MOST_TAGS", 1)
    refused = client.post("/v1/teach", json={})
    assert_problem(refused, 422, "usage")
    assert "2 tags have enough corrections" in refused.json()["detail"]
    assert "ramq teach --from-corrections" in refused.json()["detail"]


def test_the_server_loads_no_recogniser_to_teach_by_a_name(client: TestClient) -> None:
    services = services_of(client)
    assert services.teaching._by_name is None
    assert services.teaching_by_name._by_name is not None
