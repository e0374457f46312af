"""The part of the client that is about watches: archives that are listed every so often."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ramq.client_jobs import job_body
from ramq.schemas.views import PageOut
from ramq.schemas.watches import AddedWatchOut, WatchOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storage.ledger.views import Priority

Model = TypeVar("Model", bound=BaseModel)


class WatchCalls:
    """Requests under ``/v1/watches``."""

    @abstractmethod
    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        """Send a request and read its answer."""

    def watch(  # noqa: PLR0913  (what a watch may be asked for)
        self,
        source: str,
        *,
        every: str = "1h",
        events: str = "none",
        settle_seconds: float = 2.0,
        model: str | None = None,
        caption: bool | None = None,
        priority: Priority = "normal",
        stages: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        defaults: bool = True,
        pages: bool = False,
    ) -> AddedWatchOut:
        """Watch an archive: list it now, then every so often, and look where events say that something changed.

        Args:
            source: ``s3://bucket/prefix`` or a folder of the workers.
            every: list everything this often, for example ``15m``, ``1h`` or ``1d``.
            events: ``none``, ``inotify``, ``webhook`` or ``sqs:QUEUE-URL``. With ``webhook``, the answer has a secret.
            settle_seconds: look at a key after it was quiet for this long.
            model: name of the model; None: the server's.
            caption: whether to write captions; None: as the server does.
            priority: ``low``, ``normal`` or ``high``.
            stages: further stages, for example ``text``.
            include: patterns as in .gitignore: only keys that match one are listed. Empty: all.
            exclude: patterns of keys that are left out.
            defaults: whether known junk, sidecars and films are left out.
            pages: whether each page of a TIFF or PDF file is an image of its own.
        """
        body = job_body(source, model, caption, priority, stages, include, exclude, defaults, pages)
        body |= {"every": every, "events": events, "settle_seconds": settle_seconds}
        return self._ask(AddedWatchOut, "POST", "/v1/watches", json=body)

    def watches(self) -> list[WatchOut]:
        """Return every watch, oldest first."""
        return self._ask(PageOut[WatchOut], "GET", "/v1/watches").items

    def watch_state(self, watch_id: int) -> WatchOut:
        """Return a watch and how it is doing."""
        return self._ask(WatchOut, "GET", f"/v1/watches/{watch_id}")

    def pause_watch(self, watch_id: int) -> WatchOut:
        """Begin no further jobs of a watch."""
        return self._ask(WatchOut, "POST", f"/v1/watches/{watch_id}/pause")

    def resume_watch(self, watch_id: int) -> WatchOut:
        """Go on with a watch that is paused or waits after failures."""
        return self._ask(WatchOut, "POST", f"/v1/watches/{watch_id}/resume")

    def remove_watch(self, watch_id: int) -> WatchOut:
        """Watch no longer. The archive, its results and the jobs stay."""
        return self._ask(WatchOut, "DELETE", f"/v1/watches/{watch_id}")

    def renew_watch_secret(self, watch_id: int) -> AddedWatchOut:
        """Make a new secret for the events that a store sends. The old one no longer counts."""
        return self._ask(AddedWatchOut, "POST", f"/v1/watches/{watch_id}/secret")
