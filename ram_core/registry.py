"""Models by name. A loader is imported only when its model is requested."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ram_core.errors import DeviceError, UnknownModelError
from ram_core.trained import SEPARATOR, find_trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from ram_core.recognition import Recognizer, TextEncoder
    from ram_core.vocabulary import TagVocabulary

# name -> "module:function" of its loader, which takes the keyword arguments of ``load_model``.
_MODELS = {
    "lite": "ram_core.lite.model:load_lite",
    "ram": "ram_core.official:load_ram",
    "ram_plus": "ram_core.official:load_ram_plus",
    "tag2text": "ram_core.official:load_tag2text",
}

# name -> loader of the text encoder in the space of the model's vectors; takes models_dir and device.
_TEXT_ENCODERS = {
    "lite": "ram_core.lite.text_encoder:load_minilm",
    "ram": "ram_core.clip_text:load_clip_text",
    "ram_plus": "ram_core.clip_text:load_clip_text",
}

# model -> the name of its vocabulary, where that is another one.
_VOCABULARIES = {"lite": "imagenet", "ram_plus": "ram"}


def model_names() -> tuple[str, ...]:
    """Return the names that ``load_model`` knows."""
    return tuple(_MODELS)


def load_model(  # noqa: PLR0913  (one knob each; every one has a default but the name)
    name: str,
    *,
    checkpoint: Path | str | None = None,
    vocabulary: TagVocabulary | str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    precision: str | None = None,
    models_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    **options: Any,
) -> Recognizer:
    """Load a model by name, ready to recognise.

    Args:
        name: one of ``model_names()``, or that of a trained checkpoint in ``models_dir``, such as ``ram_plus@birds``.
        checkpoint: weights, official ``.pth`` or ``.safetensors``; default: those in ``models_dir``. ``lite`` has its
            own weights installed.
        vocabulary: a vocabulary or its name; default: the model's own.
        device: ``cpu``, ``cuda``, ``cuda:1``…, or ``auto`` for a GPU if there is one.
        dtype: number format of the network; default: float32.
        precision: the same by name, instead of ``dtype``; ``auto`` chooses what suits the device. See
            ``ram_core.tag_precision``.
        models_dir: folder of checkpoints and tag lists.
        cache_dir: where to cache embeddings that are computed once; default: under the user's cache folder.
        **options: options of this model's loader only.

    Raises:
        UnknownModelError: no model has this name.
        DeviceError: the device or the number format is not available.
        CheckpointError: the weights are missing, damaged or do not fit.
        VocabularyError: the tags are missing or do not fit.
    """
    import torch  # noqa: PLC0415  (using names and errors of this module must not import torch)

    load = _loader(_MODELS, name)
    place = resolve_device(device)
    if precision is not None:
        if dtype is not None:
            raise DeviceError("give the number format by dtype or by precision, not by both")
        from ram_core.tag_precision import CERTIFIED, choose_for_tags  # noqa: PLC0415  (torch)

        chosen = choose_for_tags(precision, place, model=name)
        dtype = chosen.dtype
        if chosen.name == CERTIFIED:
            options["certified"] = True
    if SEPARATOR in name:
        own = find_trained(name, models_dir)
        checkpoint = checkpoint or own.checkpoint
        vocabulary = vocabulary or own.vocabulary()
        options["name"] = name
    if isinstance(vocabulary, str):
        vocabulary = load_vocabulary(vocabulary, models_dir)
    model: Recognizer = load(
        checkpoint=checkpoint,
        vocabulary=vocabulary,
        device=place,
        dtype=dtype or torch.float32,
        models_dir=models_dir,
        cache_dir=cache_dir,
        **options,
    )
    return model


def load_vocabulary(name: str, models_dir: Path | str | None = None) -> TagVocabulary:
    """Return a vocabulary by name.

    Args:
        name: ``imagenet`` (the 1,000 classes of ``lite``), ``ram`` (RAM and RAM++) or ``tag2text``; or a model, also a
            trained one such as ``ram_plus@birds``, for its tags.
        models_dir: the folder with the official lists, or with the folders of their models; not needed for
            ``imagenet``.

    Raises:
        VocabularyError: the name is unknown, or the lists are not in ``models_dir``.
    """
    name = _VOCABULARIES.get(name, name)
    if name == "imagenet":
        from ram_core.lite.imagenet import imagenet_vocabulary  # noqa: PLC0415  (its hierarchy takes a moment to read)

        return imagenet_vocabulary()
    if SEPARATOR in name:
        return find_trained(name, models_dir).vocabulary()
    from ram_core.vocabulary import TagVocabulary  # noqa: PLC0415

    return TagVocabulary.official(name, models_dir)


def load_text_encoder(
    model_name: str, *, models_dir: Path | str | None = None, device: str | torch.device = "cpu"
) -> TextEncoder:
    """Load the text encoder whose vectors are in the space of ``model_name``'s vectors.

    Raises:
        UnknownModelError: no model has this name, or its vectors have no text encoder.
        CheckpointError: the encoder's files are missing or damaged.
        DeviceError: the device is not available.
    """
    load = _loader(_TEXT_ENCODERS, model_name)
    # lite's encoder needs no torch, and a query on the CPU must not import it.
    encoder: TextEncoder = load(models_dir=models_dir, device=device if device == "cpu" else resolve_device(device))
    return encoder


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the named device; ``auto`` is a GPU if there is one.

    Raises:
        DeviceError: the text names no device, or a missing one.
    """
    import torch  # noqa: PLC0415

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is not a device; use cpu, cuda, cuda:0, … or auto") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"No such device: {device} ({torch.cuda.device_count()} GPUs found). Use cpu or auto.")
    return found


def _loader(table: dict[str, str], name: str) -> Callable[..., Any]:
    target = table.get(name.partition(SEPARATOR)[0])
    if target is None:
        raise UnknownModelError(f"unknown model {name!r}; known models: {', '.join(table)}")
    module, function = target.split(":")
    loader: Callable[..., Any] = getattr(import_module(module), function)
    return loader
