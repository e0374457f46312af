"""Whether what a server needs is available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.errors import RamqError, ServiceUnavailableError
from storage.revision import require_current

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.standby import Databases


def state_of(check: Callable[[], object]) -> str:
    """Return ``ok``, or the one-line error that ``check`` raises."""
    try:
        check()
    except RamqError as error:
        return str(error)
    return "ok"


def states_of(databases: Databases, broker_url: str | None, check_index: Callable[[], object]) -> dict[str, str]:
    """Return ``ok`` or a one-line error for each required service.

    If there is a standby, ``search`` is ``ok``, or begins with it and says why searches read the database itself.
    """
    states = {"database": state_of(lambda: require_current(databases.engine))}
    states["broker"] = state_of(lambda: _check_broker(broker_url))
    states["index"] = state_of(check_index)
    if databases.standby is not None:
        states["search"] = _state_of_search(databases)
    return states


def is_ok(state: str) -> bool:
    """Return whether a state is that of a service that can be used."""
    return state == "ok" or state.startswith("ok: ")


def _state_of_search(databases: Databases) -> str:
    state = state_of(lambda: databases.read(require_current))
    reason = databases.why_not_standby
    return (
        state
        if reason is None or state != "ok"
        else f"ok: searches read the database itself, not the standby: {reason}"
    )


def _check_broker(url: str | None) -> None:
    from ramq.broker import check_broker  # noqa: PLC0415  (the client of Redis; few commands need it)

    if url is None:
        raise ServiceUnavailableError("RAMQ_BROKER_URL is not set; set it to the URL of Redis")
    check_broker(url)
