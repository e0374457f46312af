"""The API's types for users and tokens."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView

RoleName = Literal["look", "correct", "run", "admin"]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "ann", "role": "correct"}]})

    name: Name = Field(description="letters, digits, dots, dashes and underscores")
    role: RoleName = Field(default="look", description="each role includes those before it")


class UserChange(BaseModel):
    """What to change about a user. What is not given stays."""

    model_config = ConfigDict(extra="forbid")

    role: RoleName | None = None
    is_enabled: bool | None = Field(default=None, description="false: the user's tokens count no more")
    name: Name | None = Field(default=None, description="the new name; what was said keeps the old one")


class UserOut(FromView):
    """A user."""

    id: int
    name: str
    former_names: list[str]
    role: RoleName
    is_enabled: bool
    created_at: datetime
    tokens: int = Field(description="number of tokens that are valid")
    used_at: datetime | None = Field(description="the hour in which one of the user's tokens was last used")


class NewToken(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"expires": "90d", "note": "laptop"}]})

    role: RoleName | None = Field(default=None, description="a lower role than the user's; by default the user's")
    expires: str | None = Field(
        default=None, max_length=10, description="how long it is valid, as `12h`, `90d`, `6w` or `1y`; null: no end"
    )
    note: str = Field(default="", max_length=200, pattern=r"^[^\x00]*$", description="what it is for")


class TokenOut(FromView):
    """A token of a user, without its secret."""

    id: int
    user: str
    role: RoleName = Field(description="the lower one of the token's and the user's")
    note: str
    state: Literal["valid", "expired", "revoked", "disabled"] = Field(description="`disabled`: its user is")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="the hour of its last use")


class NewTokenOut(BaseModel):
    """A token that was just made."""

    secret: str = Field(description="the token itself: shown now and never again")
    token: TokenOut


class EventOut(FromView):
    """What somebody changed about users and tokens."""

    id: int
    at: datetime
    said_by: str = Field(description="name of who changed it")
    what: Literal[
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
    user: str = Field(
        description="whom it is about, by the name at that time; of a quota also an archive's URI, a token's id or "
        "`everybody`"
    )
    token_id: int | None
    detail: str
