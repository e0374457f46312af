"""Logging: readable lines on a terminal, JSON elsewhere. Passwords in URLs are removed.

``ramq`` and ``storage`` use the loggers of the standard library, ``workers`` uses structlog. Both write the same form.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from storage import traces
from storage.texts import visible, without_secrets

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor

_OURS = ("ramq", "storage")


def configure_logs(level: str = "info") -> None:
    """Send records of ``level`` and above to stderr. Of other libraries, send warnings and above.

    structlog, which formats the records, is loaded with the first one. Most commands log nothing, and loading it takes
    a while.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[_Handler(sys.stderr)], level=max(number, logging.WARNING), force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(number)
    _formatter.cache_clear()


def configure_structlog(level: str = "info") -> None:
    """Configure the loggers of structlog to write in the same form."""
    import structlog  # noqa: PLC0415

    shared, renderer = _processors()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Look up stderr again for each logger, because tests and daemons may replace it.
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[Any]):
    def format(self, record: logging.LogRecord) -> str:
        return _formatter().format(record)


@cache
def _formatter() -> logging.Formatter:
    import structlog  # noqa: PLC0415

    shared, renderer = _processors()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _processors() -> tuple[list[Processor], Processor]:
    """Return the processors of every record, and the renderer."""
    import structlog  # noqa: PLC0415

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_passwords,
    ]
    if sys.stderr.isatty():
        # Use the plain traceback. The rich one prints local variables, which may contain secrets.
        return [*shared, _show_control_characters], structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback
        )
    return [*shared, structlog.processors.format_exc_info], structlog.processors.JSONRenderer()


def _name_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the span in which the line was written, if it was in one: a search for them finds both."""
    event.update(traces.labels(traces.current()))
    return event


def _show_control_characters(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write them as escapes, so that a key cannot move the cursor of a terminal. JSON does this by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value)
    return event


def _hide_passwords(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[name] = without_secrets(value)
    return event
