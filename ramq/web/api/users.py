"""Users and their tokens under ``/v1/users`` and ``/v1/tokens``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response, status

from ramq.schemas.users import EventOut, NewToken, NewTokenOut, NewUser, TokenOut, UserChange, UserOut
from ramq.schemas.views import PageOut
from ramq.web.deps import MAYBE_BLANK, Cursor, Id, Limit, ServicesDep, caller_of

UserName = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[^\x00]*$", description="name of a user")]

router = APIRouter(prefix="/v1", tags=["users"])


@router.get("/users")
def list_users(services: ServicesDep) -> PageOut[UserOut]:
    """List the users by name, without those of `RAMQ_API_TOKENS`."""
    return PageOut[UserOut](items=[UserOut.model_validate(user) for user in services.accounts.users()])


@router.post("/users", status_code=status.HTTP_201_CREATED)
def add_user(request: Request, services: ServicesDep, new: NewUser) -> UserOut:
    """Add a user, who has no token yet."""
    return UserOut.model_validate(services.accounts.add(new.name, new.role, by=caller_of(request)))


@router.get("/users/history")
def list_user_events(services: ServicesDep, limit: Limit = 50, cursor: Cursor = None) -> PageOut[EventOut]:
    """List who changed what about users and tokens, the newest first."""
    page = services.accounts.history(limit=limit, cursor=cursor)
    items = [EventOut.model_validate(event) for event in page.items]
    return PageOut[EventOut](items=items, next_cursor=page.next_cursor)


@router.patch("/users/{name}")
def change_user(request: Request, services: ServicesDep, name: UserName, change: UserChange) -> UserOut:
    """Change a user. Refused if nobody could manage users afterwards."""
    return UserOut.model_validate(
        services.accounts.change(
            name, role=change.role, is_enabled=change.is_enabled, to=change.name, by=caller_of(request)
        )
    )


@router.delete("/users/{name}")
def remove_user(request: Request, services: ServicesDep, name: UserName) -> UserOut:
    """Remove a user and revoke the user's tokens. What the user said keeps the name."""
    return UserOut.model_validate(services.accounts.remove(name, by=caller_of(request)))


@router.post("/users/{name}/tokens", status_code=status.HTTP_201_CREATED)
def create_token(
    request: Request, services: ServicesDep, name: UserName, response: Response, new: NewToken | None = None
) -> NewTokenOut:
    """Make a token of a user. The response has its secret, which is never shown again."""
    asked = new or NewToken()
    made = services.accounts.create_token(
        name, role=asked.role, expires=asked.expires, note=asked.note, by=caller_of(request)
    )
    response.headers["Cache-Control"] = "no-store"
    return NewTokenOut(secret=made.secret, token=TokenOut.model_validate(made.token))


@router.get("/tokens")
def list_tokens(
    services: ServicesDep,
    user: Annotated[str | None, Query(max_length=64, description="only those of this user"), MAYBE_BLANK] = None,
) -> PageOut[TokenOut]:
    """List the tokens of users, the newest first, without their secrets."""
    return PageOut[TokenOut](items=[TokenOut.model_validate(token) for token in services.accounts.tokens(user)])


@router.delete("/tokens/{token_id}")
def revoke_token(request: Request, services: ServicesDep, token_id: Id) -> TokenOut:
    """Revoke a token. Sessions of the page that were begun with it end, too."""
    return TokenOut.model_validate(services.accounts.revoke(token_id, by=caller_of(request)))
