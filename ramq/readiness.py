"""Whether what a server needs is available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.errors import RamqError, ServiceUnavailableError
from storage.revision import require_current

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


def state_of(check: Callable[[], object]) -> str:
    """Return ``ok``, or the one-line error that ``check`` raises."""
    try:
        check()
    except RamqError as error:
        return str(error)
    return "ok"


def states_of(
    engine: Engine, broker_url: str | None, check_index: Callable[[], object], search_engine: Engine
) -> dict[str, str]:
    """Return ``ok`` or a one-line error for each required service. ``search_engine``: the database or a standby."""
    states = {"database": state_of(lambda: require_current(engine))}
    states["broker"] = state_of(lambda: _check_broker(broker_url))
    states["index"] = state_of(check_index)
    if search_engine is not engine:
        states["search"] = state_of(lambda: require_current(search_engine))
    return states


def _check_broker(url: str | None) -> None:
    from ramq.broker import check_broker  # noqa: PLC0415  (the client of Redis; few commands need it)

    if url is None:
        raise ServiceUnavailableError("RAMQ_BROKER_URL is not set; set it to the URL of Redis")
    check_broker(url)
