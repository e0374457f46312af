"""Messages: wake-ups that wake a worker. They hold no work and may be lost, doubled or late; the ledger knows the work.

Importable without torch or Celery.
"""

from __future__ import annotations

WAKE = "ramq.wake"
"""Name of the one task. Its argument is the model that the wake-up is for, which people see in the broker."""

ANY_MODEL = ("lite", "ram", "ram_plus")


def queue_of(model: str) -> str:
    """Return the queue on which workers that can run ``model`` listen."""
    return f"ramq.{model}"


def queues_of(models: tuple[str, ...] | None) -> list[str]:
    """Return the queues for these models; None means every model."""
    return [queue_of(model) for model in models or ANY_MODEL]


MODELS_WITH_TOKENS = ("ram", "ram_plus")
"""These can give other tags from stored image tokens; ``lite`` from the vector, which every record has."""
