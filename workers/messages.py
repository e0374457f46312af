"""Messages that wake workers up. They carry no work and may be lost, duplicated or late: the ledger holds the work.

Importable without torch or Celery.
"""

from __future__ import annotations

WAKE = "ramq.wake"
"""Name of the only task. Its argument is the model to work for. It is ignored, but helps when reading the broker."""

ANY_MODEL = ("lite", "ram", "ram_plus")


def queue_of(model: str) -> str:
    """Return the queue on which workers that can run ``model`` listen."""
    return f"ramq.{model}"


def queues_of(models: tuple[str, ...] | None) -> list[str]:
    """Return the queues for these models; None means every model."""
    return [queue_of(model) for model in models or ANY_MODEL]


MODELS_WITH_TOKENS = ("ram", "ram_plus")
"""Models that can compute other tags from stored image tokens. ``lite`` uses the vector, which every record has."""
