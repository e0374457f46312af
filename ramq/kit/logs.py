"""Logging set-up: lines for people on a terminal, JSON elsewhere; never a secret."""

from __future__ import annotations

import logging
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import FilteringBoundLogger

_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):[^@/\s]+@")


def without_secrets(text: str) -> str:
    """Return ``text`` with the password of every URL in it replaced by ``***``."""
    return _URL_PASSWORD.sub(r"\g<scheme>:***@", text)


def _hide_passwords(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[name] = without_secrets(value)
    return event


def configure_logs(level: str = "info") -> None:
    """Send structlog's and the standard library's records of ``level`` and above to stderr.

    structlog is loaded with the first record: most commands write none, and it takes as long as the command itself.
    """
    _Chosen.level = level
    _formatter.cache_clear()
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[_Handler(sys.stderr)], level=max(number, logging.WARNING), force=True)


class _Chosen:
    level: str | None = None


class _Handler(logging.StreamHandler[Any]):
    def format(self, record: logging.LogRecord) -> str:
        return _formatter().format(record)


@cache
def _formatter() -> logging.Formatter:
    """Set structlog up as was chosen, and return what writes the standard library's records as it does."""
    import structlog  # noqa: PLC0415

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_passwords,
    ]
    renderer: structlog.typing.Processor
    if sys.stderr.isatty():
        # Plain: the rich one prints local variables, and with them whatever secret they hold.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    if _Chosen.level is not None:
        structlog.configure(
            processors=[*shared, renderer],
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[_Chosen.level.upper()]),
            # A replaced stderr (a test, a daemon) must be seen, so the stream is looked up for each logger.
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=False,
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


class _Logger:
    """Loads structlog when something is said."""

    def __init__(self, context: dict[str, Any]) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        import structlog  # noqa: PLC0415

        _formatter()
        return getattr(structlog.get_logger(**self._context), name)


def get_logger(**context: Any) -> FilteringBoundLogger:
    """Return a logger that carries ``context`` on every line."""
    return cast("FilteringBoundLogger", _Logger(context))
