"""The models of ramq: Recognize Anything (RAM, RAM++), Tag2Text, and the small ``lite`` model.

Importing this package is cheap: torch is imported when a model is loaded. ``ram_core.reading`` reads the text in
pictures, and needs no torch at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ram_core.recognition import ModelSpec, Prediction, Recognition, TagScore
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.recognition import TextEncoder

__all__ = [
    "ModelSpec",
    "Prediction",
    "Recognition",
    "TagScore",
    "TagVocabulary",
    "load_model",
    "load_text_encoder",
    "load_vocabulary",
]


def load_model(name: str, **options: Any) -> Any:
    """Load a model by its registry name (``lite``, ``ram``, ``ram_plus``, ``tag2text``).

    See ``ram_core.registry.load_model`` for the options.
    """
    from ram_core import registry  # noqa: PLC0415  (torch and timm load here, not on import)

    return registry.load_model(name, **options)


def load_text_encoder(model_name: str, **options: Any) -> TextEncoder:
    """Load the text encoder whose vectors live in the space of ``model_name``'s vectors."""
    from ram_core import registry  # noqa: PLC0415

    return registry.load_text_encoder(model_name, **options)


def load_vocabulary(name: str, models_dir: Path | str | None = None) -> TagVocabulary:
    """Return a vocabulary by name. See ``ram_core.registry.load_vocabulary``."""
    from ram_core import registry  # noqa: PLC0415

    return registry.load_vocabulary(name, models_dir)
