"""Quotas of searches while the database does not answer: requests go on with what is known."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from ramq.web.callers import FRESH_SECONDS, Callers
from ramq.web.tokens import Token, Tokens
from storage.accounts import Known

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

ADA = Token("ada", "read")


class Accounts:
    """A database in which the quota of searches is ``most`` a second. It answers while ``is_there`` is set."""

    def __init__(self) -> None:
        self.changes, self.asked, self.most = 0, 0, 1.0
        self.is_there, self.is_asked_again = threading.Event(), threading.Event()
        self.is_there.set()

    def known(self, _before: Known | None, _used: Collection[int]) -> Known:
        self.asked += 1
        if self.asked == 2:
            self.is_asked_again.set()
        assert self.is_there.wait(30)
        return Known(
            self.asked, has_tokens=False, tokens=(), sessions={}, renamed={}, searches={("default", ""): self.most}
        )


def in_a_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: that of the tests has a loop already, if it drives a browser."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def test_a_search_does_not_wait_for_a_database_of_which_it_needs_only_a_quota() -> None:
    accounts, now = Accounts(), [0.0]
    callers = Callers(Tokens(()), lambda: cast("Any", accounts), clock=lambda: now[0])

    async def searches() -> None:
        assert await callers.searches_of(ADA) == ("user ada", "ada", 1.0)
        accounts.is_there.clear()
        accounts.most = 5.0
        for _ in range(3):
            now[0] += FRESH_SECONDS
            assert await asyncio.wait_for(callers.searches_of(ADA), 5) == ("user ada", "ada", 1.0)
            assert await asyncio.to_thread(accounts.is_asked_again.wait, 30)
        assert accounts.asked == 2, "one question at a time"
        accounts.is_there.set()
        assert callers._asking is not None
        await callers._asking
        assert await callers.searches_of(ADA) == ("user ada", "ada", 5.0)

    try:
        in_a_loop(searches())
    finally:
        accounts.is_there.set()


def test_what_this_server_changed_itself_counts_at_once() -> None:
    accounts = Accounts()
    callers = Callers(Tokens(()), lambda: cast("Any", accounts), clock=lambda: 0.0)

    async def searches() -> None:
        await callers.searches_of(ADA)
        accounts.most, accounts.changes = 5.0, 1
        assert await callers.searches_of(ADA) == ("user ada", "ada", 5.0)

    in_a_loop(searches())
