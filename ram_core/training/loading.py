"""From a checkpoint to a network that learns, and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ram_core.errors import CheckpointError, TrainingError, UnknownModelError, VocabularyError
from ram_core.modeling.architecture import PIXELS_PER_WINDOW_CELL
from ram_core.modeling.bias_tables import resizing
from ram_core.official import LoadOptions, Source, caption_words, read_source
from ram_core.registry import load_vocabulary, resolve_device
from ram_core.training.files import write_whole
from ram_core.training.networks import Trainable, TrainableRAM, TrainableRAMPlus, TrainableTag2Text
from ram_core.weights import twin_in_tagging_head

if TYPE_CHECKING:
    from ram_core.vocabulary import TagVocabulary
    from ram_core.weights import Weights

_KINDS: dict[str, type[Trainable]] = {"ram": TrainableRAM, "ram_plus": TrainableRAMPlus, "tag2text": TrainableTag2Text}
_TABLE = re.compile(r"visual_encoder\..*\.relative_position_bias_table")


def load_for_training(  # noqa: PLR0913  (one knob each; every one has a default but the first two)
    name: str,
    *,
    checkpoint: Path | str | None = None,
    vocabulary: TagVocabulary | str | None = None,
    dropout: float = 0.1,
    drop_path: float = 0.1,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
    models_dir: Path | str | None = None,
    punish_same_captions: bool = False,
) -> Trainable:
    """Load a network that learns.

    Its ``losses`` take a ``TrainingBatch``. ``parameters()`` has tied parameters once, and those that stay as they are
    have ``requires_grad`` False. ``state_dict()`` has the keys of official files.

    Args:
        name: ``ram``, ``ram_plus`` or ``tag2text``.
        checkpoint: official ``.pth`` or ``.safetensors``, with the caption branch for RAM and Tag2Text; default: the
            one in ``models_dir``.
        vocabulary: the tags, or their name; default: the official list in ``models_dir``.
        dropout: of BERT's layers.
        drop_path: stochastic depth of the image encoder.
        image_size: side of the images that the resulting checkpoint is for, in pixels; default: as before. Batches may
            have images of any size that is a multiple of 32.
        device: where to put it.
        models_dir: folder of ``ramq models pull``.
        punish_same_captions: RAM++ only: as the official code does, count the same caption of another image in the
            batch as wrong for this one.

    Returns:
        The network in training mode, float32.

    Raises:
        UnknownModelError: the name is none of these three.
        CheckpointError: the weights are missing, damaged or do not fit.
        VocabularyError: the tags are missing or do not fit.
        TrainingError: an option is out of range.
    """
    _check(name, dropout=dropout, drop_path=drop_path)
    tags = load_vocabulary(vocabulary, models_dir) if isinstance(vocabulary, str) else vocabulary
    wanted = LoadOptions(checkpoint=checkpoint, vocabulary=tags, models_dir=models_dir, captions=name == "ram")
    source = read_source(name, wanted)
    if source.vocabulary is None:
        raise VocabularyError("tag2text learns from the names of its tags; pass `vocabulary=`, or `models_dir=`")
    if source.captions:
        _check_captions(source.weights, source.path)
    for key, weight in source.weights.items():
        source.weights[key] = weight.clone()  # the file is mapped into memory, and may be overwritten by the training
    network = _network(source, wanted, dropout=dropout, drop_path=drop_path, image_size=image_size)
    network.punish_same_captions = punish_same_captions
    return network.to(resolve_device(device))


def begin_training(  # noqa: PLR0913  (as above)
    name: str,
    weights: Weights,
    vocabulary: TagVocabulary,
    *,
    dropout: float = 0.1,
    drop_path: float = 0.1,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
    models_dir: Path | str | None = None,
) -> Trainable:
    """Return a network that learns, with new weights, for example those of ``initial_weights``.

    Args and errors are those of ``load_for_training``.
    """
    _check(name, dropout=dropout, drop_path=drop_path)
    source = Source(name, Path("new weights"), dict(weights), vocabulary, captions=name != "ram_plus")
    source.check_tags()
    wanted = LoadOptions(vocabulary=vocabulary, models_dir=models_dir)
    network = _network(source, wanted, dropout=dropout, drop_path=drop_path, image_size=image_size)
    return network.to(resolve_device(device))


def _check(name: str, **shares: float) -> None:
    if name not in _KINDS:
        raise UnknownModelError(f"{name!r} cannot be trained; models that can: {', '.join(_KINDS)}")
    for option, value in shares.items():
        if not 0 <= value < 1:
            raise TrainingError(f"{option} is {value}; give a share from 0 to less than 1")


def _network(
    source: Source, wanted: LoadOptions, *, dropout: float, drop_path: float, image_size: int | None
) -> Trainable:
    assert source.vocabulary is not None
    if image_size is not None:
        _resize(source.weights, image_size)
    network = source.fill(_KINDS[source.model], dropout=dropout, drop_path=drop_path)
    network.start(source.vocabulary.names, caption_words(wanted) if source.captions else None)
    return network


def save_checkpoint(network: Trainable, path: Path | str, **more: Any) -> None:
    """Write a file that ``load_model``, ``load_for_training`` and the official code load.

    Args:
        network: the network.
        path: file to write; it appears complete or not at all.
        **more: further entries beside ``model``, for example ``epoch``.
    """
    write_whole(path, {"model": network.state_dict(), **more})


def _check_captions(weights: Weights, path: Path) -> None:
    """Raise ``CheckpointError`` unless the caption branch is there and shares the tagging decoder's weights."""
    if not any(key.startswith("text_decoder.") for key in weights):
        raise CheckpointError(
            f"{path} has no caption branch (`tag_encoder.…`, `text_decoder.…`), from which the model learns; use the "
            "official .pth, or a .safetensors that was converted with captions"
        )
    for key, weight in weights.items():
        twin = twin_in_tagging_head(key)
        if twin in weights and not torch.equal(weight, weights[twin]):
            raise CheckpointError(f"{path}: {key} differs from the tagging head's, but both must be the same weights")


def _resize(weights: Weights, image_size: int) -> None:
    """Make the relative position biases fit images of another size."""
    window, rest = divmod(image_size, PIXELS_PER_WINDOW_CELL)
    if rest or not window:
        raise TrainingError(f"image_size is {image_size}; use a multiple of {PIXELS_PER_WINDOW_CELL}")
    target = 2 * window - 1
    for key in list(weights):
        source = round(len(weights[key]) ** 0.5) if _TABLE.fullmatch(key) else target
        if source != target:
            weights[key] = (resizing(source, target) @ weights[key].double()).float()
