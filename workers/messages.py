"""Messages that wake workers up. They carry no work and may be lost, duplicated or late: the ledger holds the work.

Importable without torch or Celery.
"""

from __future__ import annotations

from typing import Literal

WAKE = "ramq.wake"
"""Name of the only task. Its argument is the model, or further stage, to work for. It is ignored, but helps when
reading the broker."""

ANY_MODEL = ("lite", "ram", "ram_plus")
MODEL_NAME = r"(lite|ram|ram_plus|(ram|ram_plus)@[a-z0-9][a-z0-9._-]{0,62})"
"""Pattern of the models of recognition: one of ``ANY_MODEL``, or a trained one, such as ``ram_plus@birds``."""

READERS = (
    "ppocr_v6",
    "ppocr_v5_arabic",
    "ppocr_v5_cyrillic",
    "ppocr_v5_devanagari",
    "ppocr_v5_greek",
    "ppocr_v5_korean",
    "ppocr_v5_tamil",
    "ppocr_v5_telugu",
    "ppocr_v5_thai",
)

TOWERS = {"siglip": ("siglip2-base",), "clip": ("clip-vit-base-patch32-laion2b",), "dino": ("dinov2-base",)}
"""Spaces that a tower of others makes, each with those of the catalogue."""

RECOGNISERS = ("lite", "ram", "ram_plus", "tag2text")
"""Models of recognition whose own network also tells how images look."""

ENCODERS = (*RECOGNISERS, *(name for names in TOWERS.values() for name in names))
"""Models of ``ram_core.spaces`` that tell how images look."""

TOWER_TYPES = {"siglip": ("siglip",), "clip": ("clip",), "dino": ("dinov2", "dinov3_vit")}
"""The types (``model_type`` of config.json) that a tower of each space has. Any tower tells how images look."""

MASKS = ("card", "iban", "email", "phone", "password")
"""Kinds of text that can be masked; see ``ram_core.reading.sensitive``."""

DETECTORS = ("grounding-dino-tiny", "grounding-dino-base", "mm-grounding-dino-tiny", "owlv2-base")
SEGMENTERS = ("sam-vit-base", "sam-vit-huge", "sam2.1-hiera-tiny", "sam2.1-hiera-large", "sam-hq-vit-base")
"""Segmenters make masks of the boxes of a detector; a model of the stage is a detector, or both joined by a plus."""

STAGE_MODELS = {
    "text": READERS,
    "locate": (*DETECTORS, *(f"{detector}+{segmenter}" for detector in DETECTORS for segmenter in SEGMENTERS)),
    "crops": ANY_MODEL,
    "look": ENCODERS,
    **TOWERS,
    "metadata": ("file",),
}
"""Stages of jobs beside recognition, each with its models."""


def kind_of(model: str) -> str:
    """Return the model whose network this is: ``ram_plus`` for a trained one such as ``ram_plus@birds``."""
    return model.partition("@")[0]


def queue_of(model: str) -> str:
    """Return the queue on which workers that can run ``model``, or do the stage of this name, listen.

    Trained models share one with their kind: a worker need not know beforehand which of them there will be.
    """
    return f"ramq.{kind_of(model)}"


def queues_of(models: tuple[str, ...]) -> list[str]:
    """Return the queues for these models and stages."""
    return [queue_of(model) for model in models]


MODELS_WITH_TOKENS = ("ram", "ram_plus")
"""Models that can compute other tags from stored image tokens. ``lite`` uses the vector, which every record has."""

FEATURES = ("auto", "none", "global", "tokens", "pooled")
"""What a job may be asked to keep of each image; see ``features_kept``."""


def features_kept(model: str, wanted: str) -> str:
    """Return the kind of features that a job of ``model`` keeps: ``none``, ``global``, ``tokens`` or ``pooled``.

    ``lite`` has only pooled features, which are small. RAM and RAM++ have the others, which are kept if asked for.
    """
    if kind_of(model) not in MODELS_WITH_TOKENS:
        return "none" if wanted == "none" else "pooled"
    return wanted if wanted in {"global", "tokens"} else "none"


def teaches_from(model: str) -> Literal["tokens", "pooled"]:
    """Return the kind of features on which heads for tags are fitted."""
    return "tokens" if kind_of(model) in MODELS_WITH_TOKENS else "pooled"
