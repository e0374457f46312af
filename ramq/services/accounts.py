"""Users and their tokens: who they are, what they may do, and who changed that."""

from __future__ import annotations

import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from ramq.services.author import LOCAL
from ramq.services.token_secrets import digest_of, new_secret, session_from
from storage import accounts, page_sessions
from storage.accounts import ROLES, Role
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.ledger import quotas
from storage.remembered import read_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.accounts import EventView, Known, TokenView, UserView
    from storage.page import Page

MOST_NOTE = 200
_NAME = re.compile(r"\w[\w.-]{0,63}")
_PERIOD = re.compile(r"([1-9]\d{0,4})([hdwy])")
_SECONDS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_BOUNDED_ENTRY = re.compile(r"[\w.-]+:(read|write):.+", re.DOTALL)
_LOCKED_OUT = (
    "{} has the last token with the role admin, so nobody could manage users on the page or by the API afterwards; "
    "make another one first: ramq user add NAME --role admin, then ramq token create NAME"
)
_OPENS = (
    "{} is the last user who has or had a token, and there are none in the settings, so requests from this machine "
    "would need no token any more; if that is what you want: ramq user remove {} --open"
)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. ``secret`` is shown once and stored nowhere.

    ``is_first``: from now on every request needs a token, also on this machine.
    """

    secret: str
    token: TokenView
    is_first: bool


class AccountClient:
    """Users and tokens. Thread-safe. Every method is one transaction.

    Args:
        engine: the database.
        api_tokens: the setting; with a token for everything in it, no change can lock everybody out.
    """

    def __init__(self, engine: Engine, api_tokens: Sequence[str] = ()) -> None:
        self._engine = engine
        self._has_setting = bool(api_tokens)
        self.changes = 0
        """How often something was changed through this object."""
        self._has_other_admin = not all(_BOUNDED_ENTRY.fullmatch(entry) for entry in api_tokens)

    # Users -----------------------------------------------------------------------------------------------------------

    def users(self) -> list[UserView]:
        """Return the users, by name."""
        with unit_of_work(self._engine) as session:
            return accounts.users(session)

    def add(self, name: str, role: str, *, by: str = LOCAL) -> UserView:
        """Add a user. Who was removed can be added again, and has no tokens then.

        Raises:
            UsageError: no user can have this name, or there is no such role.
            ConflictError: somebody else has or had the name.
        """
        known = _role(role)
        with self.changing() as session:
            _require_free(session, name, may_return=True)
            accounts.add(session, name, known)
            accounts.note(session, by, "added", name, detail=known)
            return _user(session, name)

    def change(
        self,
        name: str,
        *,
        role: str | None = None,
        is_enabled: bool | None = None,
        to: str | None = None,
        by: str = LOCAL,
    ) -> UserView:
        """Change a user: all that is asked for or, if there is an error, nothing.

        Args:
            name: of the user.
            role: what the user may do from now on. Tokens with a higher role of their own have only the user's then.
            is_enabled: False: the user's tokens count no more, and sessions of the page end for good. Jobs that the
                user started go on.
            to: the new name. What the user said keeps the old one, which nobody else can get.
            by: who asks.

        Raises:
            UsageError: there is no such role, or no user can have this name.
            NotFoundError: there is no such user.
            ConflictError: nobody could manage users afterwards, or somebody else has or had the new name.
        """
        known = None if role is None else _role(role)
        with self.changing() as session:
            user = _user(session, name)
            before = accounts.admins(session)
            if known is not None and user.role != known:
                accounts.change(session, user.id, role=known)
                accounts.note(session, by, "role", name, detail=f"{user.role} → {known}")
            if is_enabled is not None and user.is_enabled != is_enabled:
                accounts.change(session, user.id, is_enabled=is_enabled)
                if not is_enabled:
                    page_sessions.end_all(session, name)
                accounts.note(session, by, "enabled" if is_enabled else "disabled", name)
            self._require_admin(session, before, name)
            if to is not None and to != name:
                _require_free(session, to, of=name)
                accounts.change(session, user.id, name=to)
                page_sessions.rename(session, name, to)
                quotas.rename(session, name, to)
                accounts.note(session, by, "renamed", to, detail=f"{name} → {to}")
            return _user(session, name if to is None else to)

    def remove(self, name: str, *, by: str = LOCAL, opens: bool = False) -> UserView:
        """Revoke all tokens of a user, and list the user no more. What the user said keeps the name.

        Args:
            name: of the user.
            by: who asks.
            opens: also if it is the only user. Then requests from this machine need no token any more.

        Raises:
            NotFoundError: there is no such user.
            ConflictError: nobody could manage users afterwards, or nobody would need a token.
        """
        with self.changing() as session:
            user = _user(session, name)
            before, had_tokens = accounts.admins(session), accounts.has_tokens(session)
            accounts.remove(session, user.id)
            page_sessions.end_all(session, name)
            if not (opens and not accounts.users(session)):
                self._require_admin(session, before, name)
                if had_tokens and not self._has_setting and not accounts.has_tokens(session):
                    raise ConflictError(_OPENS.format(name, name))
            accounts.note(session, by, "removed", name)
            return replace(user, is_enabled=False, tokens=0)

    # Tokens ----------------------------------------------------------------------------------------------------------

    def create_token(
        self, user: str, *, role: str | None = None, expires: str | None = None, note: str = "", by: str = LOCAL
    ) -> NewToken:
        """Make a token of a user.

        Args:
            user: its name.
            role: a lower role than the user's; None: the user's, whatever it is at the time.
            expires: how long it is valid, as ``12h``, ``90d``, ``6w`` or ``1y``; None: until it is revoked.
            note: what it is for.
            by: who asks.

        Raises:
            UsageError: the role is higher than the user's, or the period or the note is wrong.
            NotFoundError: there is no such user.
            ConflictError: the user is disabled, or this would be the first token and not for everything.
        """
        own = None if role is None else _role(role)
        seconds = None if expires is None else _seconds(expires)
        if len(note) > MOST_NOTE or not note.isprintable():
            raise UsageError(f"a note is one line of at most {MOST_NOTE} characters")
        with self.changing() as session:
            found = _user(session, user)
            if own is not None and ROLES.index(own) > ROLES.index(found.role):
                raise UsageError(f"{user} has the role {found.role}, so a token of theirs cannot have {own}")
            if not found.is_enabled:
                raise ConflictError(f"{user} is disabled; first: ramq user enable {user}")
            is_first = not self._has_setting and not accounts.has_tokens(session)
            secret = new_secret()
            token_id = accounts.add_token(
                session,
                found.id,
                {
                    "hash": digest_of(secret),
                    "session_hash": digest_of(session_from(secret.encode())),
                    "role": own,
                    "note": note,
                    "seconds": seconds,
                },
            )
            if is_first and not accounts.admins(session):
                raise ConflictError(
                    "from the first token on, everybody needs one, so it must be that of an admin: "
                    "ramq user add NAME --role admin, then ramq token create NAME"
                )
            [token] = accounts.tokens(session, token_id=token_id)
            detail = f"{token.role}, {f'expires in {expires}' if expires else 'does not expire'}"
            accounts.note(session, by, "token_created", user, token_id=token_id, detail=detail)
            return NewToken(secret, token, is_first)

    def tokens(self, user: str | None = None) -> list[TokenView]:
        """Return the tokens, the newest first: all, or those of a user. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            if user is not None:
                _user(session, user)
            return accounts.tokens(session, user)

    def revoke(self, token_id: int, *, by: str = LOCAL) -> TokenView:
        """Revoke a token. It ends the sessions of the page that were begun with it.

        Raises:
            NotFoundError: there is no such token.
            ConflictError: nobody could manage users afterwards.
        """
        with self.changing() as session:
            found = accounts.tokens(session, token_id=token_id)
            if not found:
                raise NotFoundError(f"there is no token {token_id}; see `ramq token list`")
            [token] = found
            if token.revoked_at is None:
                before = accounts.admins(session)
                accounts.revoke(session, token_id)
                self._require_admin(session, before, token.user)
                accounts.note(session, by, "token_revoked", token.user, token_id=token_id)
            return accounts.tokens(session, token_id=token_id)[0]

    # Sessions of the page ---------------------------------------------------------------------------------------------

    def start_session(self, cookie_hash: bytes, user: str) -> None:
        """Note that ``user`` signed in on the page, with the cookie that has this SHA-256."""
        with self.changing() as session:
            page_sessions.add(session, cookie_hash, user)
            accounts.note(session, user, "signed_in", user)

    def end_session(self, cookie_hash: bytes, user: str) -> None:
        """End the session of the page whose cookie has this SHA-256. A session that has ended stays so."""
        with self.changing() as session:
            if page_sessions.end(session, cookie_hash):
                accounts.note(session, user, "signed_out", user)

    # For requests and for reading ------------------------------------------------------------------------------------

    def known(self, before: Known | None = None, used: Iterable[int] = ()) -> Known:
        """Return what is needed to check requests.

        Args:
            before: what this returned the last time. If nothing was changed since, it is returned again.
            used: the tokens that were used meanwhile; the hour is noted.
        """
        if ids := sorted(used):
            with unit_of_work(self._engine) as session:
                accounts.note_use(session, ids)
        if before is not None:
            with read_only(self._engine) as session:
                if accounts.version(session) == before.version:
                    return before
        with unit_of_work(self._engine) as session:
            return accounts.known(session)

    def history(self, *, limit: int = 50, cursor: str | None = None) -> Page[EventView]:
        """Return who changed what about users and tokens, the newest first. Raises ``UsageError``: wrong cursor."""
        if cursor is not None and not re.fullmatch(r"\d{1,18}", cursor):
            raise UsageError("the cursor is not from this list; ask for the first page again")
        with unit_of_work(self._engine) as session:
            return accounts.events(session, limit, None if cursor is None else int(cursor))

    def every_event(self) -> Iterator[EventView]:
        """Yield all changes, the newest first."""
        cursor: str | None = None
        while True:
            page = self.history(limit=500, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """Change something of users in a transaction, and note it in there. This process knows it at once."""
        with unit_of_work(self._engine) as session:
            accounts.lock(session)
            yield session
        self.changes += 1

    def _require_admin(self, session: Session, before: int, name: str) -> None:
        """Raise ``ConflictError`` if there was a token for everything before a change, and there is none now."""
        if before and not self._has_other_admin and not accounts.admins(session):
            raise ConflictError(_LOCKED_OUT.format(name))


def _user(session: Session, name: str) -> UserView:
    found = accounts.users(session, name)
    if not found:
        raise NotFoundError(f"there is no user {name!r}; see `ramq user list`")
    return found[0]


def _require_free(session: Session, name: str, *, may_return: bool = False, of: str | None = None) -> None:
    """Raise an error unless a user can be called ``name``.

    Args:
        session: the transaction.
        name: the name.
        may_return: the user of this name may have been removed.
        of: the user who is to be called so, and may have been once.
    """
    if not _NAME.fullmatch(name) or name.lower() == LOCAL or unicodedata.normalize("NFKC", name) != name:
        raise UsageError(
            "a user's name has 1 to 64 letters, digits, dots, dashes and underscores, without spaces, and begins with "
            "no dot or dash; "
            f"{LOCAL!r} is the name of who needs no token"
        )
    owner = accounts.owner_of(session, name)
    if owner is None or owner == (of, False) or (may_return and owner == (name, True)):
        return
    present, is_removed = owner
    if is_removed:
        raise ConflictError(f"{name} was the name of a user who was removed, {present}; choose another name")
    is_former = present.lower() != name.lower()
    detail = f"{name} is a former name of {present}" if is_former else f"there is a user {present} already"
    raise ConflictError(f"{detail}; choose another name")


def _role(role: str) -> Role:
    for known in get_args(Role):
        if role == known:
            found: Role = known
            return found
    raise UsageError(f"there is no role {role!r}; choose from {', '.join(ROLES)}")


def _seconds(period: str) -> int:
    found = _PERIOD.fullmatch(period)
    if found is None or int(found[1]) * _SECONDS[found[2]] > 100 * _SECONDS["y"]:
        raise UsageError(f"{period!r} is not a period of at most 100 years; write for example 12h, 90d, 6w or 1y")
    return int(found[1]) * _SECONDS[found[2]]
