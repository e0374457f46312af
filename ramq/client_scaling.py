"""The part of the client that is about capacity: what waits for workers, and what a job would take."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ramq.client_jobs import job_body
from ramq.schemas.backlog import BacklogOut
from ramq.schemas.estimates import JobEstimateOut

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

    def estimate(  # noqa: PLR0913  (what a job may be asked for)
        self,
        source: str,
        *,
        model: str | None = None,
        stages: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        defaults: bool = True,
        pages: bool = False,
        **amounts: float | str | None,
    ) -> JobEstimateOut:
        """Return what a job would take. Nothing is started or written.

        Args:
            source: the archive, or a part of one.
            model: name of the model; None: the server's.
            stages: further stages, for example ``text``.
            include: patterns as in .gitignore: only keys that match one are listed. Empty: all.
            exclude: patterns of keys that are left out.
            defaults: whether known junk, sidecars and films are left out.
            pages: whether each page of a TIFF or PDF file is an image of its own; then ``images.high`` is None if there
                are such files.
            **amounts: what it is reckoned with, as in the body of ``POST /v1/estimates``: ``images``, ``list_keys``,
                ``sample``, ``workers``, ``device``, ``gpu_hour_price``, ``cpu_hour_price``, ``request_price``.
        """
        body = job_body(source, model, None, "normal", stages, include, exclude, defaults, pages)
        body |= {name: value for name, value in amounts.items() if value is not None}
        return self._ask(JobEstimateOut, "POST", "/v1/estimates", json=body)
