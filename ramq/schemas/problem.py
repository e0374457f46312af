"""What an error looks like over HTTP (RFC 9457). Imported by clients too, so it needs no web framework."""

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    """One field of the request and what is wrong with it."""

    field: str = Field(examples=["query.limit"])
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). Programs decide by ``type``; ``detail`` is for people."""

    type: str = Field(examples=["urn:ramq:problem:not-found"])
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="the fields at fault, for `invalid-request`")
    at: int | None = Field(None, description="the character of `q` at fault, counted from 0")
    pointer: str | None = Field(None, description="two lines: `q`, and a caret below the character at fault")
