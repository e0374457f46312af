"""Searches that a web server answers are compared with the shadow, and nobody who searches notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog

from ramq.doctor import examine
from ramq.services import shadow_comparer
from ramq.services.shadow import filling_shadow, make_shadow_builder, place_of
from ramq.services.shadow_comparer import MOST_WAITING, ShadowComparer, comparison
from ramq.services.shadow_tally import Tally
from ramq.wiring import Services
from storage.errors import ServiceUnavailableError, UsageError
from storage.index.garbage import collect_garbage
from storage.search.views import SearchQuery
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.settings import Settings
    from storage.search.search import Search

pytestmark = pytest.mark.services


@pytest.fixture
def client(make_client: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    """A client of a web server with a shadow of segments, in which every search is compared."""
    return make_client(shadow_index_url=(tmp_path / "second").as_uri(), shadow_index_share=1.0)


def fill(services: Services) -> None:
    make_shadow_builder(services.settings, services.engine).publish_new(1, force=True)


@contextmanager
def comparing(services: Services) -> Iterator[ShadowComparer]:
    comparer = services.shadow.comparer
    with comparer.running():
        yield comparer


def until(holds: Callable[[], bool]) -> None:
    ended = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ended, "it did not happen in a minute"
        time.sleep(0.02)


def metrics_of(client: TestClient) -> dict[str, float]:
    lines = [
        line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if line.startswith("ramq_shadow")
    ]
    return {name: float(value) for name, _, value in lines}


def test_both_agree_on_a_text_on_tags_and_on_a_similar_image_and_metrics_and_command_line_tell(
    client: TestClient,
) -> None:
    services = services_of(client)
    fill(services)
    with comparing(services) as comparer:
        image_id = services.search.page(SearchQuery()).items[0].image_id
        for asked in ({"q": "cat"}, {"tag": "cat"}, {"like": str(image_id)}):
            assert client.get("/v1/search", params=asked).status_code == 200
        until(lambda: comparer.tally.outcomes.total() == 4)
    assert comparer.tally.outcomes == {"same": 4}
    assert {each.kind for each in comparer.tally.recent} == {"text", "tags", "image"}
    metrics = metrics_of(client)
    assert metrics['ramq_shadow_searches_total{outcome="same"}'] == 4
    assert metrics['ramq_shadow_searches_total{outcome="different"}'] == 0
    assert metrics["ramq_shadow_agreement_sum"] == metrics["ramq_shadow_agreement_count"] == 4
    assert metrics['ramq_shadow_seconds_sum{index="shadow"}'] > 0

    status = run("status", services, "--json")
    assert status.returncode == 0, status.stderr
    told = json.loads(status.stdout)
    assert told["compared"]["outcomes"]["same"] == 4
    assert told["compared"]["kinds"]["text"]["agreement"] == 1.0
    (item,) = told["items"]
    assert item["vectors_indexed"] == item["vectors_stored"] > 0
    [finding] = [finding for finding in examine(settings_of(services)) if finding.name == "shadow"]
    assert (finding.state, finding.detail.partition(" vectors")[0]) == (
        "ok",
        f"{item['vectors_stored']} of {item['vectors_stored']}",
    )
    away = settings_of(services).model_copy(update={"shadow_index_url": "milvus+http://127.0.0.1:9"})
    [finding] = [finding for finding in examine(away) if finding.name == "shadow"]
    assert finding.state == "fault"
    shown = run("status", services)
    assert "same" in shown.stdout
    assert "search by" in shown.stdout


def settings_of(services: Services) -> Settings:
    url = services.engine.url.render_as_string(hide_password=False)
    return services.settings.model_copy(update={"database_url": url, "broker_url": services.broker_url})


def run(action: str, services: Services, *options: str) -> subprocess.CompletedProcess[str]:
    settings = services.settings
    url = {} if settings.shadow_index_url is None else {"RAMQ_SHADOW_INDEX_URL": settings.shadow_index_url}
    return subprocess.run(
        [sys.executable, "-m", "ramq.cli.main", "index", "shadow", action, *options],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")},
            "RAMQ_DATA_DIR": str(settings.data_dir),
            "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
            **url,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_fills_verifies_and_drops_the_shadow(client: TestClient, tmp_path: Path) -> None:
    services = services_of(client)
    built = run("build", services)
    assert built.returncode == 0, built.stderr
    assert "vectors in the shadow" in built.stderr
    assert run("build", services, "--again").returncode == 0
    assert run("verify", services).returncode == 0
    for file in (tmp_path / "second" / "shadow").rglob("vectors*"):
        file.write_bytes(b"garbage")
    damaged = run("verify", services)
    assert damaged.returncode == 1
    assert "generation 1: " in damaged.stdout
    assert run("drop", services).returncode == 0
    assert not list((tmp_path / "second" / "shadow").iterdir())
    without = run("status", services_without(services))
    assert without.returncode == 2
    assert "set RAMQ_SHADOW_INDEX_URL" in without.stderr


def services_without(services: Services) -> Services:
    ours = services.settings.model_copy(update={"shadow_index_url": None})
    return Services(ours, services.engine, None, is_reachable=False)


def test_a_shadow_that_finds_something_else_is_logged_without_the_text(client: TestClient) -> None:
    services = services_of(client)
    fill(services)
    comparer = services.shadow.comparer
    index, shadow = comparer._open()
    comparer._both = index, _Other(shadow)
    with structlog.testing.capture_logs() as logged:
        comparer.take(SearchQuery(limit=5), [], time.monotonic())
    assert comparer.tally.outcomes == {"different": 1}
    (found,) = comparer.tally.recent
    assert (found.agreement, found.is_total_same) == (0.0, True)
    (line,) = logged
    assert (line["event"], line["kind"], len(line["lacks"]), len(line["has"])) == ("the shadow disagrees", "tags", 5, 5)


class _Other:
    """Finds images in the shadow that the index does not find on its first page."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def page(self, session: Any, query: SearchQuery, compared: Any) -> Any:
        first = self._search.page(session, query, compared)
        return self._search.page(session, query.after(first.next_cursor), compared)


def test_what_changed_in_between_is_no_disagreement(client: TestClient) -> None:
    services = services_of(client)
    fill(services)
    comparer = services.shadow.comparer
    index, shadow = comparer._open()
    comparer._both = _Changing(index), _Other(shadow)  # type: ignore[assignment]
    comparer.take(SearchQuery(limit=5), [], time.monotonic())
    assert comparer.tally.outcomes == {"changed": 1}
    assert not comparer.tally.recent


class _Changing:
    """Finds another page each time."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._cursor: str | None = None

    def page(self, session: Any, query: SearchQuery, compared: Any) -> Any:
        page = self._search.page(session, query.after(self._cursor), compared)
        self._cursor = page.next_cursor
        return page


class _Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def page(self, *_: object) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "outcome", "pauses"),
    [
        (ServiceUnavailableError("Milvus cannot be reached"), "failed", True),
        (RuntimeError("nobody expected this"), "failed", True),
        (UsageError("50,001 images are too many"), "refused", False),
    ],
)
def test_a_shadow_that_fails_harms_no_search_and_is_left_alone_for_a_while(
    client: TestClient, error: Exception, outcome: str, pauses: bool
) -> None:
    services = services_of(client)
    fill(services)
    comparer = services.shadow.comparer
    comparer._both = comparer._open()[0], _Failing(error)  # type: ignore[assignment]
    with comparing(services):
        assert client.get("/v1/search", params={"tag": "cat"}).status_code == 200
        until(lambda: comparer.tally.outcomes.total() == 1)
        assert comparer.tally.outcomes == {outcome: 1}
        assert client.get("/v1/search", params={"tag": "cat"}).status_code == 200
        until(lambda: comparer.tally.outcomes.total() == 2)
    assert comparer.tally.outcomes == ({outcome: 1, "dropped": 1} if pauses else {outcome: 2})


def test_a_shadow_that_is_not_filled_is_not_compared(client: TestClient) -> None:
    comparer = services_of(client).shadow.comparer
    comparer.take(SearchQuery(), [], time.monotonic())
    assert comparer.tally.outcomes == {"unready": 1}


def test_searches_never_wait_for_the_shadow_and_those_too_many_are_dropped_and_counted(client: TestClient) -> None:
    services = services_of(client)
    comparer = services.shadow.comparer
    comparer._is_running = True  # and no thread takes any
    for _ in range(MOST_WAITING + 3):
        services.search.page(SearchQuery())
    assert comparer._waiting.qsize() == MOST_WAITING
    assert comparer.tally.outcomes == {"dropped": 3}
    comparer.take(SearchQuery(), [], time.monotonic() - shadow_comparer.WAIT_SECONDS - 1)
    assert comparer.tally.outcomes == {"dropped": 4}


def test_only_first_pages_of_a_share_of_the_searches_are_compared(client: TestClient) -> None:
    services = services_of(client)
    comparer = services.shadow.comparer
    services.search.page(SearchQuery())
    assert comparer._waiting.empty(), "it compares only while a web server runs"
    comparer._is_running = True
    cursor = services.search.page(SearchQuery(limit=2)).next_cursor
    services.search.page(SearchQuery(limit=2, cursor=cursor))
    assert comparer._waiting.qsize() == 1
    comparer._share = 0.5
    rng = np.random.default_rng(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("random.random", rng.random)
        for _ in range(12):
            comparer.offer(SearchQuery(), [])
    assert 2 < comparer._waiting.qsize() < 12


def test_a_web_server_without_a_shadow_compares_nothing_and_has_no_metrics_of_it(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client()
    services = services_of(client)
    with comparing(services) as comparer:
        services.search.page(SearchQuery())
        assert not comparer._is_running
    assert metrics_of(client) == {}


def test_what_several_processes_found_is_added_up_and_forgotten_after_a_week(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(client)
    place = place_of(services.settings)
    page = services.search.page(SearchQuery())
    found = comparison("tags", (page, 0.01), (page, 0.03))
    for _ in range(2):
        tally = Tally()
        tally.count("same", found)
        tally.count("dropped")
        tally.write(place)
    place.put("compared/other-version.json", b"{}")
    added = Tally.read(place)
    assert added.outcomes == {"same": 2, "dropped": 2}
    figures = added.summary().kinds["tags"]
    assert (figures["compared"], figures["index_p50_ms"], figures["shadow_p50_ms"]) == (2, 10.0, 30.0)
    monkeypatch.setattr("ramq.services.shadow_tally.FORGET_SECONDS", -1.0)
    tally.write(place)
    assert Tally.read(place).outcomes == {}


def test_workers_fill_the_shadow_and_go_on_if_they_cannot(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    services = services_of(client)
    monkeypatch.setattr("ramq.services.shadow.FILL_SECONDS", 0.05)
    with filling_shadow(services.settings, services.engine):
        until(lambda: services.shadow.status()[0].vectors_indexed > 0)
    away = services.settings.model_copy(update={"shadow_index_url": "milvus+http://127.0.0.1:9"})
    with structlog.testing.capture_logs() as logged, filling_shadow(away, services.engine):
        until(lambda: bool(logged))
    assert logged[0]["event"] == "the shadow of the index is not filled"
    assert "Milvus cannot be reached" in logged[0]["error"]
    with filling_shadow(services.settings.model_copy(update={"shadow_index_url": None}), services.engine):
        pass


def test_a_deletion_is_proved_only_once_the_shadow_has_forgotten_the_images_too(client: TestClient) -> None:
    services = services_of(client)
    fill(services)
    deletion = services.erasures.delete([services.images.find("coffee.png")])

    def left() -> dict[str, int]:
        traces = services.erasures.verify(deletion.deletion_id).traces
        return {trace.place.partition("/")[0]: trace.left for trace in traces if trace.left}

    assert left() == {"shadow, generation-1": 1}
    services.shadow.build()
    builder = make_shadow_builder(services.settings, services.engine)
    collect_garbage(services.engine, builder.store, grace_seconds=-1, pointers=builder.pointers)
    assert left() == {}
