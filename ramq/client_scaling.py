"""The part of the client that is about capacity: what waits for workers, and what a job would take."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ramq.schemas.backlog import BacklogOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Model = TypeVar("Model", bound=BaseModel)


class ScalingCalls:
    """Requests under ``/v1/backlog`` and ``/v1/estimates``."""

    @abstractmethod
    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        """Send a request and read its answer."""

    def backlog(self, *, kinds: Sequence[str] = (), device: str = "cpu") -> BacklogOut:
        """Return how much work waits for these kinds of workers, in seconds of work of one on this kind of device.

        Args:
            kinds: models of recognition and other stages; none named: all.
            device: ``cpu``, ``cuda`` or ``mps``.
        """
        return self._ask(BacklogOut, "GET", "/v1/backlog", {"kind": kinds, "device": device})
