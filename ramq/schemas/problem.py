"""The form of an error over HTTP (RFC 9457). Clients import this file too, so it needs no web framework."""

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    """One field of the request and what is wrong with it."""

    field: str = Field(examples=["query.limit"])
    detail: str


class QuotaProblem(BaseModel):
    """The quota that does not allow a request."""

    kind: str = Field(examples=["jobs_at_once"])
    subject: str = Field(description="`user` or `archive`")
    name: str = Field(description="the user's name, or the archive's URI")
    amount: float | str = Field(description="the quota; of `highest_priority` the name of the priority")
    used: float | str = Field(description="how much of it is used; of `highest_priority` the priority asked for")


class Problem(BaseModel):
    """A problem document (RFC 9457). Programs should use ``type``. ``detail`` is for people."""

    type: str = Field(examples=["urn:ramq:problem:not-found"])
    title: str
    status: int
    detail: str
    trace_id: str | None = Field(
        None, description="number of the request, as in the header `traceresponse` and in logs"
    )
    errors: list[FieldProblem] | None = Field(None, description="the invalid fields, for `invalid-request`")
    at: int | None = Field(None, description="position of the error in `q`, counted from 0")
    quota: QuotaProblem | None = Field(None, description="for `quota`: which one, and how much of it is used")
    pointer: str | None = Field(None, description="two lines: `q`, and a caret below the position of the error")
