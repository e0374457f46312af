"""The part of the client that is about reviews of data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ramq.client_dataset_steps import DatasetStepCalls
from ramq.schemas.reviews import DecisionsOut, ReviewOut, SaidOut

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReviewCalls(DatasetStepCalls):
    """Calls about data sets and their reviews. A version is ``NAME``, the newest that is done, or ``NAME@NUMBER``."""

    def review(self, name: str) -> ReviewOut:
        """Return how many decisions wait for a person and how many were found right: by tag, and by person."""
        return self._ask(ReviewOut, "GET", f"/v1/datasets/{name}/review")

    def decisions(
        self,
        name: str,
        tag: str | int,
        what: Literal["dropped", "added"] = "dropped",
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DecisionsOut:
        """Return decisions about a tag (name or id) that wait for a person. ``cursor``: of the page before."""
        asked = {"what": what, "limit": limit, "cursor": cursor}
        return self._ask(DecisionsOut, "GET", f"/v1/datasets/{name}/review/tags/{_quoted(tag)}", asked)

    def answer_decisions(
        self, name: str, tag: str | int, image_ids: Sequence[int], *, is_right: bool | None
    ) -> SaidOut:
        """Say that a step was right about a tag of these pictures, or not; None: take your own answers back."""
        body = {"image_ids": list(image_ids), "is_right": is_right}
        return self._ask(SaidOut, "POST", f"/v1/datasets/{name}/review/tags/{_quoted(tag)}", json=body)


def _quoted(tag: str | int) -> str:
    return quote(str(tag), safe="")
