"""Quotas and shares: how much each user, token and archive may use, and uses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ramq.services.author import LOCAL
from storage import accounts
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.ledger import quota_use, quotas
from storage.ledger.quotas import KINDS, QuotaView
from storage.ledger.views import PRIORITIES
from storage.results import archives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.accounts import AccountClient
    from storage.ledger.quota_use import UseView
    from storage.ledger.quotas import Kind, Subject

EVERYBODY = "everybody"
"""Whom a quota without a subject is about, in the history."""

MOST = 1e12
LEAST_SHARE, MOST_SHARE = 0.01, 100.0
LEAST_SEARCHES = 0.001
"""The least searches per second, beside 0: one in 1,000 seconds."""

_IMAGES_AND_JOBS: tuple[Subject, ...] = ("default", "user", "archive")
SUBJECTS: dict[Kind, tuple[Subject, ...]] = {
    "images_waiting": _IMAGES_AND_JOBS,
    "images_a_day": _IMAGES_AND_JOBS,
    "jobs_at_once": _IMAGES_AND_JOBS,
    "highest_priority": ("default", "user"),
    "searches_per_second": ("default", "user", "token"),
    "share": ("user",),
}
"""Whom each kind of quota can be set for."""


class Whom(NamedTuple):
    """Whom a quota is for: at most one of these; none: every user without an own one."""

    user: str | None = None
    token: int | None = None
    archive: str | None = None


class QuotaClient:
    """Quotas. Thread-safe. Every method is one transaction.

    Args:
        engine: the database.
        accounts_: changes users; quotas are changed and noted as they are.
        others: names of users that are not in the database: those of the tokens in the settings.
    """

    def __init__(self, engine: Engine, accounts_: Callable[[], AccountClient], others: Sequence[str] = ()) -> None:
        self._engine = engine
        self._accounts = accounts_
        self._others = {LOCAL, *others}

    def put(self, kind: str, amount: float | str | None, whom: Whom = Whom(), *, by: str = LOCAL) -> QuotaView:  # noqa: B008  (frozen)
        """Set a quota.

        Args:
            kind: one of ``KINDS``; dashes may stand for underscores.
            amount: how much; None or ``none``: as much as wanted, although others are limited. Of
                ``highest_priority``: ``low``, ``normal`` or ``high``.
            whom: whom it is for.
            by: who asks.

        Raises:
            UsageError: there is no such kind, it cannot be set for this subject, or the amount is wrong.
            NotFoundError: there is no such user, token or archive.
        """
        known = _kind(kind)
        number = _amount(known, amount)
        with self._accounts().changing() as session:
            subject, name = self._subject(session, known, whom)
            quota = QuotaView(known, subject, name, number)
            quotas.put(session, quota)
            shown = (
                "no limit" if number is None else f"{quota.shown:,g}" if known != "highest_priority" else quota.shown
            )
            accounts.note(session, by, "quota_set", name or EVERYBODY, detail=f"{known.replace('_', ' ')}: {shown}")
        return quota

    def drop(self, kind: str, whom: Whom = Whom(), *, by: str = LOCAL) -> QuotaView:  # noqa: B008  (frozen)
        """Remove a quota and return it. A user without an own one has that of everybody then.

        Raises:
            UsageError, NotFoundError: as ``put``; or there is none.
        """
        known = _kind(kind)
        with self._accounts().changing() as session:
            subject, name = self._subject(session, known, whom, is_removing=True)
            dropped = quotas.drop(session, known, subject, name)
            if dropped is None:
                of = f"for {subject} {name}" if name else "for everybody"
                raise NotFoundError(f"there is no quota {known.replace('_', '-')} {of}; see `ramq quota list`")
            accounts.note(session, by, "quota_unset", name or EVERYBODY, detail=known.replace("_", " "))
        return dropped

    def use(self) -> list[UseView]:
        """Return what users and archives use of their quotas: users first, those with the most in flight first."""
        with unit_of_work(self._engine) as session:
            return quota_use.use(session)

    def of(self, user: str) -> UseView:
        """Return what a user uses."""
        with unit_of_work(self._engine) as session:
            found = quota_use.use(session, user)
        return next(each for each in found if each.subject == "user" and each.name == user)

    def _subject(self, session: Session, kind: Kind, whom: Whom, *, is_removing: bool = False) -> tuple[Subject, str]:
        named = [name for name, value in whom._asdict().items() if value is not None]
        if len(named) > 1:
            raise UsageError(f"a quota is for one of {', '.join(named)}: set one after the other")
        subject: Subject = "default"
        for each in SUBJECTS[kind]:
            if each in named:
                subject = each
        if (named and subject == "default") or subject not in SUBJECTS[kind]:
            may = ", ".join("all users" if each == "default" else f"one {each}" for each in SUBJECTS[kind])
            raise UsageError(f"{kind.replace('_', '-')} can be set for {may}, and for nothing else")
        if subject == "default":
            return subject, ""
        if subject == "archive":
            assert whom.archive is not None
            return subject, archives.uri(session, archives.whole(session, whom.archive))
        if subject == "token":
            assert whom.token is not None
            if not is_removing and not accounts.tokens(session, token_id=whom.token):
                raise NotFoundError(f"there is no token {whom.token}; see `ramq token list`")
            return subject, str(whom.token)
        assert whom.user is not None
        if not is_removing and whom.user not in self._others and not quotas.is_known(session, whom.user):
            raise NotFoundError(
                f"there is no user {whom.user!r}, and nobody of this name has started a job; see `ramq user list`"
            )
        return subject, whom.user

    def list(self) -> list[QuotaView]:
        """Return every quota, those for all users first."""
        with unit_of_work(self._engine) as session:
            return quotas.every(session)


def shown(quota: QuotaView) -> str:
    """Return the amount of a quota in words."""
    if quota.shown is None:
        return "no limit"
    return quota.shown if isinstance(quota.shown, str) else number_of(quota.shown)


def number_of(amount: float) -> str:
    """Return an amount with its thousands apart, and decimals only if it has any."""
    if amount == int(amount):
        return f"{amount:,.0f}"
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}"


def _kind(kind: str) -> Kind:
    for known in KINDS:
        if kind.replace("-", "_") == known:
            return known
    raise UsageError(f"there is no quota {kind!r}; choose from {', '.join(name.replace('_', '-') for name in KINDS)}")


def _amount(kind: Kind, amount: float | str | None) -> float | None:
    if kind == "share" and amount in (None, "none"):
        raise UsageError("a share is a number; `ramq quota unset share --user NAME` makes it 1 again")
    if amount is None or amount == "none":
        return None
    if kind == "highest_priority":
        for name, urgency in PRIORITIES.items():
            if amount == name:
                return float(urgency)
        raise UsageError(f"the highest priority is one of {', '.join(PRIORITIES)}, or none; not {amount!r}")
    try:
        number = float(str(amount).replace(",", "").replace("_", ""))
    except ValueError as error:
        raise UsageError(f"{amount!r} is not a number; give one, or none for no limit") from error
    _require_possible(kind, number, amount)
    return number


def _require_possible(kind: Kind, number: float, said: float | str) -> None:
    if kind == "share":
        if not LEAST_SHARE <= number <= MOST_SHARE:
            raise UsageError(f"a share is a number from {LEAST_SHARE:g} to {MOST_SHARE:g}; 2 is twice the usual one")
    elif kind == "searches_per_second":
        if number != 0 and not LEAST_SEARCHES <= number <= MOST:
            raise UsageError(f"{said!r} is neither 0 nor a number from {LEAST_SEARCHES:g} to {MOST:,.0f}")
    elif not math.isfinite(number) or not 0 <= number <= MOST or number != int(number):
        raise UsageError(f"{said!r} is not a whole number from 0 to {MOST:,.0f}")
