"""Users, their tokens, and the list of what was changed about both.

Every change holds one lock until its commit and adds a row to ``account_event``. So changes do not overlap, the ids of
events are in the order of the commits, and the newest id says whether anything has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from storage import page_sessions
from storage.database import limit_idleness, wait_for_lock
from storage.page import Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

Role = Literal["look", "correct", "run", "admin"]
ROLES: tuple[Role, ...] = ("look", "correct", "run", "admin")
"""What a user may do. Each role includes those before it."""

What = Literal[
    "added",
    "role",
    "enabled",
    "disabled",
    "renamed",
    "removed",
    "token_created",
    "token_revoked",
    "signed_in",
    "signed_out",
    "quota_set",
    "quota_unset",
]

_LOCK = 7_263_778


@dataclass(frozen=True, slots=True)
class UserView:
    """A user. ``tokens`` is the number of tokens that are valid; ``used_at`` the hour in which one was last used."""

    id: int
    name: str
    former_names: list[str]
    role: Role
    is_enabled: bool
    created_at: datetime
    tokens: int
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token of a user, without its secret.

    ``role`` is the lower one of the token's and the user's. ``state`` is ``expired``, ``revoked``, ``disabled`` (its
    user is) or ``valid``. ``used_at`` is the hour of its last use.
    """

    id: int
    user: str
    role: Role
    note: str
    state: Literal["valid", "expired", "revoked", "disabled"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventView:
    """What somebody changed. ``user`` is the name at that time."""

    id: int
    at: datetime
    said_by: str
    what: What
    user: str
    token_id: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class ValidToken:
    """What is needed to check a request. ``seconds_left`` until it expires; None: it does not."""

    id: int
    user: str
    role: Role
    hash: bytes
    session_hash: bytes
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is needed to check requests, at one moment.

    Attributes:
        version: the newest event; 0 if there is none.
        has_tokens: whether a user has, or ever had, a token.
        tokens: those that are valid.
        sessions: the SHA-256 of the cookie of each session of the page that has not ended, and in how many seconds
            it does at the latest.
        renamed: the present name of each former one.
        searches: the quotas of searches per second, by subject and name: see ``storage.ledger.quotas``.
    """

    version: int
    has_tokens: bool
    tokens: tuple[ValidToken, ...]
    sessions: Mapping[bytes, float]
    renamed: Mapping[str, str]
    searches: Mapping[tuple[str, str], float | None]


_STATE = """CASE WHEN token.revoked_at IS NOT NULL THEN 'revoked' WHEN token.expires_at <= now() THEN 'expired'
                 WHEN NOT account.is_enabled THEN 'disabled' ELSE 'valid' END"""
_TOKENS = "access_token AS token JOIN account ON account.id = token.account_id"


def lock(session: Session) -> None:
    """Let no other change of users and tokens begin until this transaction ends. Every change begins with this."""
    limit_idleness(session)
    wait_for_lock(session, _LOCK)


def note(
    session: Session, said_by: str, what: What, name: str, *, token_id: int | None = None, detail: str = ""
) -> None:
    """Add to the list of changes. The transaction must hold ``lock``."""
    session.execute(
        text(
            """INSERT INTO account_event (said_by, what, name, token_id, detail)
               VALUES (:said_by, :what, :name, :token_id, :detail)"""
        ),
        {"said_by": said_by, "what": what, "name": name, "token_id": token_id, "detail": detail},
    )


def version(session: Session) -> int:
    """Return the id of the newest change; 0 if there is none."""
    return int(session.scalar(text("SELECT coalesce(max(id), 0) FROM account_event")) or 0)


def known(session: Session) -> Known:
    """Return what is needed to check requests."""
    newest = version(session)  # first: what is committed after this only makes the version too old
    rows = session.execute(
        text(
            f"""SELECT token.id, account.name, account.role AS user_role, token.role, token.hash, token.session_hash,
                       extract(epoch FROM token.expires_at - now()) AS seconds_left
                FROM {_TOKENS} WHERE {_STATE} = 'valid' ORDER BY token.id"""  # noqa: S608  (constants)
        )
    ).all()
    tokens = tuple(
        ValidToken(
            row.id,
            row.name,
            lower_of(row.user_role, row.role),
            bytes(row.hash),
            bytes(row.session_hash),
            None if row.seconds_left is None else float(row.seconds_left),
        )
        for row in rows
    )
    names = session.execute(text("SELECT name, former_names FROM account WHERE cardinality(former_names) > 0"))
    renamed = {former: row.name for row in names for former in row.former_names}
    limits = session.execute(text("SELECT subject, name, amount FROM quota WHERE kind = 'searches_per_second'"))
    searches = {(row.subject, row.name): row.amount for row in limits}
    return Known(newest, has_tokens(session), tokens, page_sessions.lasting(session), renamed, searches)


def has_tokens(session: Session) -> bool:
    """Return whether a user, who was not removed, has or had a token. Then requests need one."""
    return bool(
        session.scalar(text(f"SELECT EXISTS (SELECT FROM {_TOKENS} WHERE account.removed_at IS NULL)"))  # noqa: S608
    )


def lower_of(of_user: Role, of_token: Role | None) -> Role:
    """Return the lower one of two roles."""
    return of_user if of_token is None else ROLES[min(ROLES.index(of_user), ROLES.index(of_token))]


def admins(session: Session) -> int:
    """Return how many users have a valid token with which they may do everything."""
    found = session.scalar(
        text(
            f"""SELECT count(DISTINCT account.id) FROM {_TOKENS}
                WHERE {_STATE} = 'valid' AND account.role = 'admin' AND coalesce(token.role, 'admin') = 'admin'"""  # noqa: S608
        )
    )
    return int(found or 0)


# Users -----------------------------------------------------------------------------------------------------------


def users(session: Session, name: str | None = None) -> list[UserView]:
    """Return the users by name, without removed ones, or only the one called ``name``."""
    rows = session.execute(
        text(
            f"""SELECT account.id, account.name, former_names, account.role, is_enabled, account.created_at,
                       count(token.id) FILTER (WHERE {_STATE} = 'valid') AS tokens, max(token.used_at) AS used_at
                FROM account LEFT JOIN access_token AS token ON token.account_id = account.id
                WHERE removed_at IS NULL AND (CAST(:name AS text) IS NULL OR account.name = :name)
                GROUP BY account.id ORDER BY account.name"""  # noqa: S608  (constants)
        ),
        {"name": name},
    )
    return [UserView(**row) for row in rows.mappings()]


def owner_of(session: Session, name: str) -> tuple[str, bool] | None:
    """Return the present name of the user who has or had this name, and whether they were removed."""
    row = session.execute(
        text(
            """SELECT name, removed_at IS NOT NULL AS is_removed FROM account
               WHERE lower(name) = lower(:name) OR lower(:name) = ANY(SELECT lower(unnest(former_names)))"""
        ),
        {"name": name},
    ).first()
    return None if row is None else (row.name, row.is_removed)


def add(session: Session, name: str, role: Role) -> None:
    """Add a user, or the one of this name again who was removed. The former tokens are forgotten then."""
    former = "SELECT id FROM account WHERE name = :name AND removed_at IS NOT NULL"
    session.execute(text(f"DELETE FROM access_token WHERE account_id IN ({former})"), {"name": name})  # noqa: S608
    session.execute(
        text(
            """INSERT INTO account (name, role) VALUES (:name, :role)
               ON CONFLICT (name) DO UPDATE SET role = excluded.role, is_enabled = true, removed_at = NULL"""
        ),
        {"name": name, "role": role},
    )


def change(session: Session, user_id: int, **values: Any) -> None:
    """Set ``role``, ``is_enabled`` or ``name`` of a user. A former name is kept."""
    if "name" in values:
        _set(
            session,
            "former_names = array_remove(array_append(former_names, name), :name), name = :name",
            user_id,
            values,
        )
    elif "role" in values:
        _set(session, "role = :role", user_id, values)
    else:
        _set(session, "is_enabled = :is_enabled", user_id, values)


def remove(session: Session, user_id: int) -> None:
    """Revoke the tokens of a user, and list the user no more. The name stays theirs."""
    _set(session, "removed_at = now(), is_enabled = false", user_id, {})
    session.execute(
        text("UPDATE access_token SET revoked_at = now() WHERE account_id = :id AND revoked_at IS NULL"),
        {"id": user_id},
    )


def _set(session: Session, what: str, user_id: int, values: Mapping[str, Any]) -> None:
    session.execute(text(f"UPDATE account SET {what} WHERE id = :id"), {**values, "id": user_id})  # noqa: S608  (constants)


# Tokens ----------------------------------------------------------------------------------------------------------


def add_token(session: Session, user_id: int, values: Mapping[str, Any]) -> int:
    """Add a token.

    Args:
        session: the transaction.
        user_id: whose it is.
        values: ``hash``, ``session_hash``, ``role`` (None: the user's), ``note`` and ``seconds`` (None: no end).

    Returns:
        Its id.
    """
    made = session.scalar(
        text(
            """INSERT INTO access_token (account_id, hash, session_hash, role, note, expires_at)
               VALUES (:id, :hash, :session_hash, :role, :note,
                       now() + make_interval(secs => CAST(:seconds AS double precision))) RETURNING id"""
        ),
        {**values, "id": user_id},
    )
    return int(made or 0)


def tokens(session: Session, user: str | None = None, token_id: int | None = None) -> list[TokenView]:
    """Return the tokens, the newest first: all, those of a user, or the one with this id."""
    rows = session.execute(
        text(
            f"""SELECT token.id, account.name AS user, account.role AS user_role, token.role, note, {_STATE} AS state,
                       token.created_at, expires_at, revoked_at, used_at
                FROM {_TOKENS}
                WHERE (CAST(:user AS text) IS NULL OR account.name = :user)
                    AND (CAST(:id AS bigint) IS NULL OR token.id = :id)
                ORDER BY token.id DESC"""  # noqa: S608  (constants)
        ),
        {"user": user, "id": token_id},
    )
    return [
        TokenView(**{key: value for key, value in row.items() if key not in {"role", "user_role"}}, role=role)
        for row in rows.mappings()
        for role in [lower_of(row["user_role"], row["role"])]
    ]


def revoke(session: Session, token_id: int) -> None:
    """Revoke a token. It stays in the list."""
    session.execute(text("UPDATE access_token SET revoked_at = now() WHERE id = :id"), {"id": token_id})


def note_use(session: Session, token_ids: Sequence[int]) -> None:
    """Note the hour as that of the last use of these tokens. Tokens of which it is noted are not written again."""
    session.execute(
        text(
            """UPDATE access_token SET used_at = date_trunc('hour', now())
               WHERE id IN (SELECT id FROM access_token WHERE id = ANY(:ids)
                                AND used_at IS DISTINCT FROM date_trunc('hour', now()) ORDER BY id FOR UPDATE)"""
        ),
        {"ids": list(token_ids)},
    )


# The list of changes ---------------------------------------------------------------------------------------------


def events(session: Session, limit: int, before: int | None = None) -> Page[EventView]:
    """Return a page of the changes, the newest first. ``before``: only those with smaller ids."""
    rows = session.execute(
        text(
            """SELECT id, at, said_by, what, name AS user, token_id, detail FROM account_event
               WHERE CAST(:before AS bigint) IS NULL OR id < :before ORDER BY id DESC LIMIT :limit + 1"""
        ),
        {"before": before, "limit": limit},
    )
    found = [EventView(**row) for row in rows.mappings()]
    cursor = str(found[limit - 1].id) if len(found) > limit else None
    return Page(found[:limit], cursor)
