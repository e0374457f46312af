"""Quotas through HTTP, the client and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ramq.client import Client, ProblemError
from ramq.services.quotas import Whom
from storage.database import unit_of_work
from storage.ledger import quotas
from storage.ledger.quotas import QuotaView
from tests.services.clock import Clock
from tests.services.web import assert_problem, bearer, services_of, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

HTML = {"accept": "text/html"}


@pytest.fixture
def secrets(client: TestClient) -> dict[str, str]:
    """Tokens of users of these names."""
    accounts = services_of(client).accounts
    for name, role in (("boss", "admin"), ("ann", "run"), ("bob", "run")):
        accounts.add(name, role)
    return {name: accounts.create_token(name).secret for name in ("boss", "ann", "bob")}


def test_a_refused_job_says_which_quota_and_how_much_is_used(
    client: TestClient, secrets: dict[str, str], archive: Path
) -> None:
    boss, ann = bearer(secrets["boss"]), bearer(secrets["ann"])
    made = client.put("/v1/quotas/jobs_at_once", json={"amount": 1, "user": "ann"}, headers=boss)
    assert made.json() == {"kind": "jobs_at_once", "subject": "user", "name": "ann", "amount": 1}
    assert client.post("/v1/jobs", json={"source": str(archive)}, headers=ann).status_code == 201
    before = len(services_of(client).jobs.list().items)
    refused = client.post("/v1/jobs", json={"source": str(archive)}, headers=ann)
    assert_problem(refused, 409, "quota")
    assert refused.json()["quota"] == {
        "kind": "jobs_at_once",
        "subject": "user",
        "name": "ann",
        "amount": 1.0,
        "used": 1.0,
    }
    assert len(services_of(client).jobs.list().items) == before
    assert client.post("/v1/jobs", json={"source": str(archive)}, headers=bearer(secrets["bob"])).status_code == 201
    refused = client.post("/jobs", data={"source": str(archive)}, headers={**ann, **HTML})
    assert refused.status_code == 409
    assert "1 job at once are the most for ann" in refused.text


def test_a_priority_above_the_highest_names_both(client: TestClient, secrets: dict[str, str], archive: Path) -> None:
    client.put("/v1/quotas/highest_priority", json={"amount": "low"}, headers=bearer(secrets["boss"]))
    asked = {"source": str(archive), "priority": "high"}
    refused = client.post("/v1/jobs", json=asked, headers=bearer(secrets["ann"]))
    assert_problem(refused, 409, "quota")
    assert (refused.json()["quota"]["amount"], refused.json()["quota"]["used"]) == ("low", "high")
    [quota] = client.get("/v1/quotas", headers=bearer(secrets["boss"])).json()["items"]
    assert (quota["subject"], quota["name"], quota["amount"]) == ("default", "", "low")


def test_everybody_sees_the_own_use_and_only_admins_that_of_others(
    client: TestClient, secrets: dict[str, str], archive: Path
) -> None:
    services_of(client).quotas.put("images-waiting", 5)
    services_of(client).quotas.put("share", 2, Whom(user="ann"))
    services_of(client).jobs.create(str(archive), by="ann")
    mine = client.get("/v1/quotas/mine", headers=bearer(secrets["ann"])).json()
    assert (mine["name"], mine["share"], mine["jobs"], mine["most_images_waiting"]) == ("ann", 2, 1, 5)
    assert mine["most_jobs_at_once"] is None
    assert_problem(client.get("/v1/quotas/use", headers=bearer(secrets["ann"])), 403, "forbidden")
    used = client.get("/v1/quotas/use", headers=bearer(secrets["boss"])).json()["items"]
    assert {"ann", "bob", "boss"} <= {each["name"] for each in used}


def test_searches_above_the_quota_wait_for_the_seconds_they_are_told(
    client: TestClient, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(client.app.state.limit, "_clock", clock)  # type: ignore[attr-defined]  # FastAPI's own
    services_of(client).quotas.put("searches-per-second", 0.5)
    services_of(client).quotas.put("searches-per-second", 2, Whom(user="bob"))
    ann, bob = bearer(secrets["ann"]), bearer(secrets["bob"])
    assert client.get("/v1/search?tag=cat", headers=ann).status_code == 200
    refused = client.get("/v1/tags", headers=ann)
    assert_problem(refused, 429, "too-many-requests")
    assert refused.headers["retry-after"] == "2"
    assert "0.5 searches a second are the most for ann" in refused.json()["detail"]
    assert client.get("/v1/jobs", headers=ann).status_code == 200
    assert [client.get("/v1/tags", headers=bob).status_code for _ in range(3)] == [200, 200, 429]
    clock.now += 2
    assert client.get("/v1/search?tag=cat", headers=ann).status_code == 200


def test_who_searches_too_much_is_told_to_wait_for_an_hour_at_most(client: TestClient, secrets: dict[str, str]) -> None:
    tiny = QuotaView("searches_per_second", "default", "", 1e-300)  # older versions took it
    services_of(client).quotas.put("searches-per-second", 1)  # which web servers notice
    with unit_of_work(services_of(client).engine) as session:
        quotas.put(session, tiny)
    answers = [client.get("/v1/tags", headers=bearer(secrets["ann"])) for _ in range(2)]
    assert (answers[1].status_code, answers[1].headers["retry-after"]) == (429, "3600")


def test_a_token_has_a_quota_of_searches_of_its_own(client: TestClient, secrets: dict[str, str]) -> None:
    accounts, quotas = services_of(client).accounts, services_of(client).quotas
    made = accounts.create_token("ann")
    quotas.put("searches-per-second", 0, Whom(token=made.token.id))
    assert_problem(client.get("/v1/tags", headers=bearer(made.secret)), 403, "forbidden")
    assert client.get("/v1/tags", headers=bearer(secrets["ann"])).status_code == 200
    quotas.drop("searches-per-second", Whom(token=made.token.id))
    assert client.get("/v1/tags", headers=bearer(made.secret)).status_code == 200


def test_tokens_of_the_settings_have_quotas_too(make_client: Callable[..., Any]) -> None:
    client = make_client(api_tokens=("eye:read:r-secret",))
    services_of(client).quotas.put("searches-per-second", 0.01, Whom(user="eye"))
    assert [client.get("/v1/tags", headers=bearer("r-secret")).status_code for _ in range(2)] == [200, 429]


def test_the_client_sets_and_reads_quotas(client: TestClient, secrets: dict[str, str], archive: Path) -> None:
    with serving(services_of(client)) as url, Client(url, token=secrets["boss"]) as ramq:
        assert ramq.set_quota("highest_priority", "normal", user="boss").amount == "normal"
        assert ramq.set_quota("images_waiting", None, user="ann").amount is None
        assert ramq.set_quota("jobs_at_once", 0, archive=str(archive)).subject == "archive"
        assert {quota.kind for quota in ramq.quotas()} == {"highest_priority", "images_waiting", "jobs_at_once"}
        assert ramq.my_quotas().highest_priority == "normal"
        assert {each.name for each in ramq.quota_use()} >= {"ann", "bob", "boss"}
        with pytest.raises(ProblemError) as refused:
            ramq.enqueue(str(archive))
        assert refused.value.problem.quota is not None
        assert refused.value.problem.quota.kind == "jobs_at_once"
        assert ramq.unset_quota("jobs_at_once", archive=str(archive)).amount == 0
        ramq.enqueue(str(archive))


def test_the_page_shows_use_and_sets_quotas(client: TestClient, secrets: dict[str, str], archive: Path) -> None:
    boss = {**bearer(secrets["boss"]), **HTML}
    services_of(client).jobs.create(str(archive), by="ann")
    said = {"kind": "images_waiting", "amount": "10000", "user": "ann"}
    assert client.post("/users/quotas", data=said, headers=boss).headers["location"] == "/users#quotas"
    shown = client.get("/users", headers=boss).text
    assert "of 10,000" in shown
    assert client.post("/users/quotas", data={**said, "amount": ""}, headers=boss).status_code == 303
    assert "of 10,000" not in client.get("/users", headers=boss).text
    refused = client.post("/users/quotas", data={**said, "amount": "lots"}, headers=boss)
    assert refused.status_code == 422
    assert "lots" in refused.text


def test_a_job_that_waits_for_room_says_so_on_its_page(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    services.quotas.put("images-waiting", 0)
    job = services.jobs.create(str(archive))
    assert "0 images in flight are the most for local" in client.get(f"/jobs/{job.id}", headers=HTML).text
    assert client.get(f"/v1/jobs/{job.id}").json()["note"].startswith("waiting: 0 images in flight")


def test_images_in_flight_are_metrics_of_few_users(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    for number in range(25):
        job = services.jobs.create(str(archive), by=f"u{number:02}")
        with services.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET listed = 100 - id WHERE id = %s", (job.id,))
    told = client.get("/metrics").text
    rows = [line for line in told.splitlines() if line.startswith("ramq_user_images_waiting{")]
    assert len(rows) == 21
    assert any('user=""' in row for row in rows)
