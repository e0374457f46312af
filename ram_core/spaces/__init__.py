"""Vectors of pictures that are made for one purpose: ``load_image_encoder`` gives an ``ImageEncoder``.

The vector that recognition gives answers to texts. An encoder of this package gives another one beside it: how a
picture looks (``lite``, RAM and RAM++ with the weights that they recognise with, DINOv2), or what a larger tower makes
of it, which has a text encoder of its own (SigLIP 2, CLIP).

Importing this package is cheap: torch and transformers are imported when a model is loaded.

``encoder``  what an encoder is, and what identifies it
``lite``     how a picture looks, with the network of ``lite``
``swin``     the same with the image encoder of RAM, RAM++ and Tag2Text
``towers``   SigLIP, CLIP and DINOv2, by transformers
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ram_core.errors import UnknownModelError
from ram_core.spaces.encoder import EncoderSpec, ImageEncoder
from ram_core.trained import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from ram_core.recognition import TextEncoder

__all__ = ["ENCODERS", "METHODS_WITH_TEXTS", "EncoderSpec", "ImageEncoder", "load_image_encoder", "load_text_tower"]

RECOGNISERS = ("lite", "ram", "ram_plus", "tag2text")
"""Models whose own network also tells how pictures look."""

TOWERS = ("siglip2-base", "clip-vit-base-patch32-laion2b", "dinov2-base")
"""The towers of the catalogue (``ramq models``)."""

WITH_TEXTS = ("siglip2-base", "clip-vit-base-patch32-laion2b")
"""Towers whose vectors texts can be compared with."""

METHODS_WITH_TEXTS = ("pooled", "projected")
"""How ``EncoderSpec.method`` begins for vectors that texts can be compared with."""

ENCODERS = (*RECOGNISERS, *TOWERS)


def load_image_encoder(
    name: str,
    *,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    models_dir: Path | str | None = None,
    types: Sequence[str] | None = None,
) -> ImageEncoder:
    """Load an encoder by name. Nothing is downloaded.

    Args:
        name: one of ``ENCODERS``, a trained model such as ``ram_plus@birds``, or a folder in ``models_dir`` with
            a tower of the same kind.
        device: ``cpu``, ``cuda``, ``cuda:1``…, or ``auto`` for a GPU if there is one.
        precision: ``float32``, ``bfloat16``, ``float16`` (GPU only), or ``auto``: bfloat16 on GPUs that compute in it,
            but for ``lite``, and float32 elsewhere. It is part of what made a vector.
        models_dir: folder of checkpoints (``ramq models pull``). ``lite`` needs none.
        types: it must be a tower of one of these types (``model_type`` of its config.json); None: anything.

    Raises:
        UnknownModelError: no encoder has this name, or it is no tower.
        CheckpointError: the weights are missing, damaged, or of another kind of model.
        DeviceError: the device or the number format is not available.
    """
    from ram_core.precision import AUTO, choose  # noqa: PLC0415  (torch: names of this package must not import it)
    from ram_core.registry import resolve_device  # noqa: PLC0415

    is_recogniser = name.partition(SEPARATOR)[0] in RECOGNISERS
    module = "lite" if name == "lite" else "swin" if is_recogniser else "towers"
    load = import_module(f"ram_core.spaces.{module}").load
    if types is not None and module != "towers":
        raise UnknownModelError(f"{name} is no tower of type {' or '.join(types)}")
    limited = {} if types is None else {"types": types}
    if name == "lite" and precision == AUTO:
        precision = "float32"  # it is small, and in 16 bits all of it would be, sums included
    numbers = choose(precision, resolve_device(device))
    encoder: ImageEncoder = load(name, numbers=numbers, models_dir=models_dir, **limited)
    return encoder


def load_text_tower(
    name: str, *, device: str | torch.device = "cpu", models_dir: Path | str | None = None
) -> TextEncoder:
    """Load the text encoder that belongs to a tower: its vectors can be compared with those of pictures.

    Raises:
        UnknownModelError: no tower has this name, or it has no text encoder.
        CheckpointError, DeviceError: see ``load_image_encoder``.
    """
    if name in ENCODERS and name not in WITH_TEXTS:
        raise UnknownModelError(f"{name} has no text encoder; towers with one: {', '.join(WITH_TEXTS)}")
    from ram_core.registry import resolve_device  # noqa: PLC0415
    from ram_core.spaces.towers import load_texts  # noqa: PLC0415

    return load_texts(name, device=resolve_device(device), models_dir=models_dir)
