"""The JSON of reviews: what people say of the tags that a data set's steps dropped or added."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from ramq.schemas.views import FromView, PageOut
from storage.datasets.review_views import MOST_AT_ONCE, Decision, Review, Said


class TallyOut(FromView):
    """How many decisions wait for an answer, how many have one, and how many of these were right."""

    waiting: int
    reviewed: int
    right: int
    agreement: float | None = Field(description="`right` of `reviewed`, 0..1; null: none was reviewed")


class TagTallyOut(FromView):
    """The decisions about one tag."""

    id: int
    name: str
    name_zh: str | None
    dropped: TallyOut
    added: TallyOut


class PersonTallyOut(FromView):
    """The answers of one person."""

    said_by: str = Field(description="name of the person's token, or `local`")
    reviewed: int
    right: int = Field(description="decisions that this person found right")


class ReviewOut(BaseModel):
    """How far a review is. What waits is of this version; answers are of its data set."""

    name: str
    version: int
    dropped: TallyOut
    added: TallyOut
    tags: list[TagTallyOut] = Field(description="most waiting first")
    people: list[PersonTallyOut]

    @classmethod
    def of(cls, review: Review) -> Self:
        """Return the JSON of a review."""
        return cls(
            name=review.version.name,
            version=review.version.number,
            dropped=TallyOut.model_validate(review.dropped),
            added=TallyOut.model_validate(review.added),
            tags=[TagTallyOut.model_validate(tag) for tag in review.tags],
            people=[PersonTallyOut.model_validate(person) for person in review.people],
        )


Why = Literal["outlier", "contradicted", "no_region", "removed"]


class DecisionOut(FromView):
    """A tag of a picture, as a version has it."""

    image_id: int
    key: str
    origins: list[str] = Field(description="who named the tag: `given`, `parsed`, `generated`, `corrected`")
    reason: Why | None = Field(description="why it was dropped; null: it was kept")
    certainty: float | None = Field(description="of keeping or dropping it, 0..1")
    box: list[float] | None = Field(description="left, top, right, bottom of its region, 0..1; null: the whole picture")
    evidence: dict[str, Any] = Field(description="what the step knew; fields depend on the step")


class DecisionsOut(PageOut[DecisionOut]):
    """Decisions about a tag, least certain first, and pictures that are typical of the tag."""

    typical: list[DecisionOut]

    @classmethod
    def of_page(cls, items: list[Decision], next_cursor: str | None, typical: list[Decision]) -> Self:
        """Return the JSON of a page."""
        return cls(
            items=[DecisionOut.model_validate(item) for item in items],
            next_cursor=next_cursor,
            typical=[DecisionOut.model_validate(item) for item in typical],
        )


class NewAnswer(BaseModel):
    """An answer about one tag of several pictures."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"image_ids": [12, 31], "is_right": True}]}
    )

    image_ids: list[Annotated[StrictInt, Field(ge=1, lt=2**63)]] = Field(min_length=1, max_length=MOST_AT_ONCE)
    is_right: StrictBool | None = Field(
        description="whether the step was right to drop, or to add, the tag; null: take your own answers back"
    )


class AnswerOut(FromView):
    """An answer about a picture."""

    image_id: int
    was_dropped: bool
    is_right: bool
    said_by: str
    said_at: datetime


class SaidOut(FromView):
    """What came of an answer. Answers that stood there before were kept."""

    tag_id: int
    tag: str
    image_ids: list[int] = Field(description="pictures whose answer was stored, or taken back")
    others: list[AnswerOut] = Field(description="answers that were given before, and stay")

    @classmethod
    def of(cls, said: Said) -> Self:
        """Return the JSON of what was said."""
        return cls.model_validate(said)
