"""The page offers what the token may do, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from storage.accounts import ROLES
from storage.results.reading_views import FoundLine
from storage.results.region_views import FoundRegion
from tests.readings import rectangle
from tests.services.decided import Label, add_version, begin_version
from tests.services.located import write_regions
from tests.services.read import write_text
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

TOKENS = ("eye:read:r-secret", "hand:write:w-secret", "head:admin:a-secret")
FOR_ANYBODY = {"/logout", "/search/image"}


def offered(client: TestClient, path: str) -> set[str]:
    """Where the buttons of a screen lead that change something."""
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, path
    actions = re.findall(r'<form[^>]*method="post"[^>]*action="([^"?]+)', answer.text)
    return set(actions) - FOR_ANYBODY


def all_actions(client: TestClient, screens: list[str]) -> dict[str, str | None]:
    """What a client that may do everything is offered, and the role that each needs."""
    roles = client.app.state.roles  # type: ignore[attr-defined]  # FastAPI's own
    return {action: roles.needed("POST", action) for path in screens for action in offered(client, path)}


@pytest.fixture
def screens(make_client: Callable[..., TestClient], archive: Path) -> list[str]:
    """Templates that have something to press: a rule, a job that runs, two generations, corrections, failures."""
    services = services_of(make_client())
    [job] = services.jobs.list().items
    cat = services.images.find("chelsea.png")
    services.corrections.tag([cat], remove=[CAT])
    write_text(services, cat, [FoundLine("CHELSEA", 0.7, rectangle(0, 0, 1, 0.5))])
    write_regions(services, cat, [FoundRegion("cat", 0.7, (0.1, 0.1, 0.6, 0.9))])
    services.policies.put("espresso", "deny")
    add_version(
        services, "pets", [Label(cat, CAT, "outlier"), Label(services.images.find("coffee.png"), CAT, "outlier")]
    )
    services.reviews.say("pets", CAT, [cat], is_right=True)
    begin_version(services, "pets")
    running = services.jobs.create(str(archive))
    return [
        "/",
        f"/images/{cat}",
        "/jobs",
        f"/jobs/{running.id}",
        f"/jobs/{job.id}",
        f"/jobs/{job.id}/failures",
        "/archives",
        "/archives/policies",
        "/generations",
        "/datasets",
        "/datasets/pets",
        f"/datasets/pets/review?{urlencode({'tag': CAT})}",
        "/teach",
        f"/teach?job={running.id}",
    ]


@pytest.mark.parametrize(("secret", "role"), [("r-secret", "look"), ("w-secret", "run"), ("a-secret", "admin")])
def test_a_screen_offers_what_a_token_of_the_settings_may_do_and_no_more(
    make_client: Callable[..., TestClient], screens: list[str], secret: str, role: str
) -> None:
    everything = all_actions(make_client(), screens)
    assert set(everything.values()) == {"correct", "run", "admin"}
    client = make_client(api_tokens=TOKENS)
    client.post("/login", data={"token": secret})

    seen = {action for path in screens for action in offered(client, path)}

    assert seen == {action for action, needed in everything.items() if needed in ROLES[: ROLES.index(role) + 1]}


@pytest.mark.parametrize("role", ROLES)
def test_a_screen_offers_what_a_users_role_includes_and_no_more(
    make_client: Callable[..., TestClient], screens: list[str], role: str
) -> None:
    open_to_all = make_client()
    everything = all_actions(open_to_all, screens)
    accounts = services_of(open_to_all).accounts
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    accounts.add("ann", role)
    client = make_client()
    client.post("/login", data={"token": accounts.create_token("ann").secret})

    seen = {action for path in screens for action in offered(client, path)}

    assert seen == {action for action, needed in everything.items() if needed in ROLES[: ROLES.index(role) + 1]}
    assert ('href="/users"' in client.get("/jobs").text) == (role == "admin")


def test_a_reader_is_told_who_they_are_and_sees_no_way_to_start_a_job(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(api_tokens=TOKENS)
    client.post("/login", data={"token": "r-secret"})

    jobs = client.get("/jobs").text
    assert "eye (read-only)" in jobs
    assert "New job" not in jobs
    assert "New job" not in client.get("/archives").text
    assert "Add a tag" not in client.get("/images/1").text
    assert "Sign out" not in make_client().get("/jobs").text
