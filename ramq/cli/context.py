"""The settings and the services that every command starts with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ramq.logs import configure_logs
from ramq.settings import Settings, load_settings
from ramq.tracing import start as start_traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services


def settings_for(**overrides: object) -> Settings:
    """Read the settings and set up logging. Raises ``UsageError``."""
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    configure_logs(settings.log_level)
    return settings


@contextmanager
def services(settings: Settings | None = None) -> Iterator[Services]:
    """Provide the services while a command runs."""
    from ramq.wiring import open_services  # noqa: PLC0415  (`--help` needs none of it)

    settings = settings or settings_for()
    start_traces(settings, "ramq")
    with open_services(settings) as opened:
        yield opened
