"""The API's types for quotas and what is used of them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView

PriorityName = Literal["low", "normal", "high"]
KindName = Literal["images_waiting", "images_a_day", "jobs_at_once", "highest_priority", "searches_per_second", "share"]
Amount = Annotated[
    float | PriorityName | None,
    Field(description="how much; of `highest_priority` a priority; null: no limit, although others have one"),
]


class NewQuota(BaseModel):
    """How much a quota is to be, and whom it is for: at most one of `user`, `token` and `archive`; none: all users."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"amount": 10_000, "user": "ann"}]})

    amount: Amount
    user: str | None = Field(default=None, max_length=64, pattern=r"^[^\x00]*$", description="name of a user")
    token: int | None = Field(default=None, ge=1, le=2**63 - 1, description="id of a token: only searches")
    archive: str | None = Field(default=None, max_length=4_096, pattern=r"^[^\x00]*$", description="id or URI")


class QuotaOut(BaseModel):
    """A quota."""

    kind: KindName
    subject: Literal["default", "user", "token", "archive"] = Field(description="`default`: of users without their own")
    name: str = Field(description="the user's name, the token's id or the archive's URI; empty for `default`")
    amount: Amount


class UseOut(FromView):
    """What a user or an archive uses, beside their quotas; null: no limit."""

    subject: Literal["user", "archive"]
    name: str = Field(description="the user's name, or the archive's URI")
    share: float = Field(description="weight among the users whose images wait; usually 1")
    images_waiting: int = Field(description="images of running and paused jobs that no worker has finished")
    most_images_waiting: float | None
    images_today: int = Field(description="images that listings gave to workers since midnight UTC")
    most_images_a_day: float | None
    jobs: int = Field(description="running and paused jobs")
    most_jobs_at_once: float | None
    highest_priority: PriorityName | None
    searches_per_second: float | None
    day_ends_at: datetime
