"""What a training begins with: weights and tags."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ram_core.errors import CheckpointError, TrainingError
from ram_core.modeling.published import CHECKPOINTS, DESCRIPTIONS
from ram_core.modeling.tiny import build
from ram_core.official import Source
from ram_core.openset import embed_vocabulary
from ram_core.registry import load_text_encoder, load_vocabulary
from ram_core.trained import SEPARATOR, TAGS, WEIGHTS, find_trained, read_tags
from ram_core.training.initial import initial_weights
from ram_core.training.loading import begin_training, load_for_training
from ram_core.weights import model_of, read_checkpoint

if TYPE_CHECKING:
    from ram_core.training.networks import Trainable
    from ram_core.vocabulary import TagVocabulary
    from ram_core.weights import Weights

NEW = "new"
"""The name of weights that are drawn at random."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The weights and the tags that a training begins with.

    Attributes:
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        checkpoint: the weights; None: new ones.
        vocabulary: the tags.
        parent: for the record: ``name``, ``path`` and ``sha256`` of the weights.
    """

    model: str
    checkpoint: Path | None
    vocabulary: TagVocabulary
    parent: dict[str, Any]

    def network(self, *, seed: int, models_dir: Path | None, **options: Any) -> Trainable:
        """Return the network that learns.

        Args:
            seed: of new weights.
            models_dir: folder of models.
            **options: ``dropout``, ``drop_path``, ``image_size`` and ``device`` of ``load_for_training``.

        Raises:
            CheckpointError: the weights are damaged or do not fit, or CLIP is missing.
            VocabularyError: the tags do not fit the weights.
            TrainingError: new weights need other tags.
        """
        if self.checkpoint is not None:
            return load_for_training(
                self.model, checkpoint=self.checkpoint, vocabulary=self.vocabulary, models_dir=models_dir, **options
            )
        weights = new_weights(self.model, self.vocabulary, seed=seed, models_dir=models_dir)
        return begin_training(self.model, weights, self.vocabulary, models_dir=models_dir, **options)


def beginning(
    start: str, model: str | None, vocabulary: TagVocabulary | None, *, seed: int, models_dir: Path | None
) -> Beginning:
    """Find weights and tags.

    Args:
        start: a file, a folder that a training wrote, a trained model's name, ``ram``, ``ram_plus`` or ``tag2text`` for
            the published weights, or ``new``.
        model: the model; None: that of the weights. New weights are by default those of ``ram_plus``.
        vocabulary: the tags; None: those that belong to the weights, and for new ones the published list.
        seed: of new weights.
        models_dir: folder of models.

    Raises:
        CheckpointError: there are no such weights, or they are of another model.
        VocabularyError: the tags are not there, or do not fit the weights.
    """
    if start == NEW:
        kind = model or "ram_plus"
        parent = {"name": "new weights", "path": None, "sha256": f"drawn with seed {seed}"}
        return Beginning(kind, None, vocabulary or _published_tags(kind, models_dir), parent)
    path, name = _find(start, models_dir)
    weights = read_checkpoint(path, captions=False)
    kind = model_of(weights)
    if model not in {None, kind}:
        raise CheckpointError(f"{path} is a checkpoint of {kind}, not of {model}; train {kind}, or begin with another")
    tags = vocabulary or _own_tags(path) or _published_tags(kind, models_dir)
    Source(kind, path, weights, tags, captions=False).check_tags()  # before millions of captions are read
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Beginning(kind, path, tags, {"name": name, "path": str(path.absolute()), "sha256": digest})


def new_weights(
    model: str, vocabulary: TagVocabulary, *, seed: int, models_dir: Path | None, full: bool = True
) -> Weights:
    """Draw weights of the published size; the label embeddings are CLIP's.

    Args:
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        vocabulary: the tags; for RAM++ with as many descriptions of each as published, 51.
        seed: of the weights.
        models_dir: folder with CLIP, which RAM and RAM++ need.
        full: False: a tiny network.

    Raises:
        TrainingError: RAM++ lacks descriptions.
        CheckpointError: CLIP is missing.
    """
    counts = {len(each) for each in vocabulary.descriptions or ((),)}
    if model == "ram_plus" and counts != {DESCRIPTIONS}:
        raise TrainingError(
            f"new weights of ram_plus need {DESCRIPTIONS} descriptions of each tag, but the vocabulary "
            f"{vocabulary.name!r} has {'none' if counts == {0} else 'another number'}; give --vocabulary FILE.jsonl "
            "with them, or begin with a checkpoint (--from)"
        )
    labels = None
    if model != "tag2text":
        encoder = load_text_encoder(model, models_dir=models_dir)
        embedded = embed_vocabulary(vocabulary, encoder, plural=model == "ram_plus").embeddings
        labels = torch.from_numpy(np.ascontiguousarray(embedded.reshape(-1, embedded.shape[-1])))
    network = build(model, tags=len(vocabulary), full=full, captions=model == "ram")
    return initial_weights(network, labels, seed)


def _find(start: str, models_dir: Path | None) -> tuple[Path, str]:
    """Return the file of weights, and their name for people."""
    given = Path(start)
    if start in CHECKPOINTS:  # a folder of this name in the working directory is not meant: ./ram is
        return _published(start, models_dir)
    if os.path.isfile(given):  # noqa: PTH113  (Path.is_file raises for long names)
        return given, given.name
    if os.path.isdir(given):  # noqa: PTH112
        path = given / WEIGHTS
        if not path.is_file():
            raise CheckpointError(f"{given} has no {WEIGHTS}: the training has not ended; give one of its files")
        return path, given.name
    if SEPARATOR in start:
        found = find_trained(start, models_dir)
        return found.checkpoint, found.name
    raise CheckpointError(
        f"{start} does not exist; give a file, the folder of a training, one of {', '.join(CHECKPOINTS)}, a "
        f"trained model such as ram_plus@birds, or {NEW}"
    )


def _published(start: str, models_dir: Path | None) -> tuple[Path, str]:
    home = None if models_dir is None else Path(models_dir)
    for suffix in (".pth", ".safetensors"):  # training needs the caption branch, which safetensors may lack
        for folder in () if home is None else (home / start, home):
            path = folder / f"{CHECKPOINTS[start]}{suffix}"
            if path.is_file():
                return path, start
    raise CheckpointError(f"no checkpoint of {start} in {models_dir}; run `ramq models pull {start}`, or give --from")


def _own_tags(path: Path) -> TagVocabulary | None:
    """Return the tags beside weights that were trained here."""
    for folder in (path.parent, path.parent.parent):  # states are one folder deeper
        if (folder / TAGS).is_file():
            return read_tags(folder / TAGS)
    return None


def _published_tags(model: str, models_dir: Path | None) -> TagVocabulary:
    return load_vocabulary("tag2text" if model == "tag2text" else "ram", models_dir)
