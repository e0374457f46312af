"""The part of the client that manages users and their tokens: see ``ramq.client.Client``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ramq.client_jobs import JobCalls
from ramq.schemas.users import EventOut, NewTokenOut, TokenOut, UserOut
from ramq.schemas.views import PageOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.schemas.users import RoleName


class UserCalls(JobCalls):
    """Requests under ``/v1/users`` and ``/v1/tokens``. They need a token with the role admin."""

    def users(self) -> list[UserOut]:
        """Return the users, by name."""
        return self._ask(PageOut[UserOut], "GET", "/v1/users").items

    def add_user(self, name: str, role: RoleName = "look") -> UserOut:
        """Add a user, who has no token yet."""
        return self._ask(UserOut, "POST", "/v1/users", json={"name": name, "role": role})

    def change_user(
        self, name: str, *, role: RoleName | None = None, is_enabled: bool | None = None, to: str | None = None
    ) -> UserOut:
        """Change the role of a user, disable or enable the user, or give the user the name ``to``."""
        body = {"role": role, "is_enabled": is_enabled, "name": to}
        return self._ask(UserOut, "PATCH", f"/v1/users/{quote(name, safe='')}", json=body)

    def remove_user(self, name: str) -> UserOut:
        """Remove a user and revoke the user's tokens. What the user said keeps the name."""
        return self._ask(UserOut, "DELETE", f"/v1/users/{quote(name, safe='')}")

    def create_token(
        self, user: str, *, role: RoleName | None = None, expires: str | None = None, note: str = ""
    ) -> NewTokenOut:
        """Make a token of a user. ``secret`` is in this answer and never again. ``expires``: ``90d``, for example."""
        body = {"role": role, "expires": expires, "note": note}
        return self._ask(NewTokenOut, "POST", f"/v1/users/{quote(user, safe='')}/tokens", json=body)

    def tokens(self, user: str | None = None) -> list[TokenOut]:
        """Return the tokens of all users, or of one, the newest first."""
        return self._ask(PageOut[TokenOut], "GET", "/v1/tokens", {"user": user}).items

    def revoke_token(self, token_id: int) -> TokenOut:
        """Revoke a token."""
        return self._ask(TokenOut, "DELETE", f"/v1/tokens/{token_id}")

    def user_history(self) -> Iterator[EventOut]:
        """Yield who changed what about users and tokens, the newest first."""
        return self._items(EventOut, "/v1/users/history", {})
