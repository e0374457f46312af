"""The part of the client that teaches tags: see ``ramq.client.Client``."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ramq.schemas.teaching import SuggestionsOut, TaughtOut, TaughtTagOut
from ramq.schemas.views import PageOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Model = TypeVar("Model", bound=BaseModel)


class TeachingCalls:
    """Requests under ``/v1/teach``."""

    @abstractmethod
    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        """Send a request and read its answer."""

    def teach(self, tag: str, yes: Sequence[int], no: Sequence[int] = (), **how: Any) -> TaughtOut:
        """Teach a tag on images. Keywords: ``precision``, ``apply``, ``skip_missing``."""
        body = {"tag": {"tag": tag, "yes": list(yes), "no": list(no)}, **how}
        return self._ask(TaughtOut, "POST", "/v1/teach", json=body)

    def teach_from_corrections(self, **how: Any) -> TaughtOut:
        """Teach every tag that people added to enough images. Keywords: ``least``, and as ``teach``."""
        return self._ask(TaughtOut, "POST", "/v1/teach", json=how)

    def taught(self) -> list[TaughtTagOut]:
        """Return the tags that people taught."""
        return self._ask(PageOut[TaughtTagOut], "GET", "/v1/teach").items

    def to_label(self, tag: str, count: int = 12, *, yes: Sequence[int] = (), no: Sequence[int] = ()) -> SuggestionsOut:
        """Return images to label next for a tag."""
        body = {"tag": tag, "count": count, "yes": list(yes), "no": list(no)}
        return self._ask(SuggestionsOut, "POST", "/v1/teach/suggestions", json=body)
