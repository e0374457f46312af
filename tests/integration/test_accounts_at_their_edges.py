"""Users and tokens: what opens a server, what ends an answer, and what a user may be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from tests.integration.test_accounts import later
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.testclient import TestClient

    from ramq.services.accounts import AccountClient
    from tests.services.clock import Clock

pytestmark = pytest.mark.services


@pytest.fixture
def client(make: Callable[..., TestClient]) -> TestClient:
    return make()


@pytest.fixture
def accounts(client: TestClient) -> AccountClient:
    return services_of(client).accounts


def test_the_last_user_is_not_removed_by_mistake_when_no_admin_was_left_before(accounts: AccountClient) -> None:
    """An admin's token may have expired, or the other users were removed while the settings had a token."""
    accounts.add("boss", "admin")
    accounts.create_token("boss", expires="1d")
    with unit_of_work(accounts._engine) as session:
        session.execute(text("UPDATE access_token SET expires_at = now()"))
    with pytest.raises(ConflictError, match="ramq user remove boss --open"):
        accounts.remove("boss")
    accounts.remove("boss", opens=True)
    assert accounts.users() == []


def test_an_answer_that_nobody_needed_a_token_for_ends_when_the_first_one_is_made(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    app: Any = client.app
    sent: list[bytes] = []

    async def endless() -> AsyncIterator[bytes]:
        for part in (b"before", b"after"):
            yield part
            if part == b"before":
                await run_in_threadpool(accounts.create_token, "boss")
                later(clock)

    app.router.routes.insert(0, Route("/v1/jobs", lambda _: StreamingResponse(endless())))
    accounts.add("boss", "admin")
    with client.stream("GET", "/v1/jobs") as response:
        sent.extend(response.iter_bytes())
    assert b"".join(sent) == b"before"


@pytest.mark.parametrize("name", [".", "..", "--help", "-x", "\uff41nn", "a b", "local", ""])
def test_a_name_is_no_path_no_option_and_no_other_form_of_a_name(accounts: AccountClient, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters"):
        accounts.add(name, "look")
