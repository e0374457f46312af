"""The models of this process: recognizers, each loaded when the first job needs it, and their captioner.

Several stay loaded while memory allows, so that jobs of two models can take turns.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import structlog

from ram_core import load_model
from ram_core.captions import template_caption
from ram_core.checkpoints import installed
from ram_core.errors import DeviceError, ModelError, VocabularyError
from ram_core.recognition import Done, RecognizesAhead
from ram_core.tiling import tiled
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import generations, teachings
from storage.results.vocabularies import VocabularySpec
from storage.tables import RECOGNITION
from workers.messages import ANY_MODEL, features_kept, teaches_from
from workers.pipeline.captioner import CAPTIONER, SharedCaptioner
from workers.pipeline.fitness import EVERYTHING, UnfitError, is_out_of_memory, of_model, out_of_memory
from workers.pipeline.room import has_room
from workers.pipeline.stage_holder import StageHolder
from workers.pipeline.tags import tag_vocabulary
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ram_core.recognition import Pending, Prediction, Preprocessing, Recognizer, Retagger
    from ram_core.tag_precision import TagPrecision
    from ram_core.teaching.recognizer import TaughtRecognizer
    from ram_core.vocabulary import TagVocabulary
    from storage.ledger.claims import ClaimedShard
    from storage.results.teachings import Basis, HeadRow
    from workers.pipeline.model_options import ModelOptions

log = structlog.get_logger()


@dataclass(slots=True)
class LoadedModel:
    """A recognizer and the other things that a job on it needs."""

    name: str
    recognizer: Recognizer
    thresholds: NDArray[np.float32]  # (T,)
    captioner: SharedCaptioner
    basis: Basis | None = None  # of the vocabulary, if people taught it
    number_format: str = "float32"  # what was chosen for it

    @property
    def preprocessing(self) -> Preprocessing:
        """What prepares pictures for it: long ones in tiles."""
        found: Preprocessing = tiled(self.recognizer.preprocessing)
        return found

    @property
    def precision(self) -> str:
        """The number format of tags that are recognised now, one of ``PRECISIONS``."""
        base: Any = getattr(self.recognizer, "base", self.recognizer)  # of a taught one
        return str(base.runner.precision) if hasattr(base, "runner") else self.number_format

    def precision_after(self, before: str | None) -> str | None:
        """Return the number format of tags that are computed from what is stored of an image in another one."""
        if self.precision not in {"float32", "certified"}:
            return self.precision
        # Certified were the tags that the image had then. What is stored of it is in 16 bits.
        return "bfloat16" if before == "certified" else before

    @property
    def retagger(self) -> Retagger:
        """The recognizer as one that computes tags from stored features. Only for a model with a custom vocabulary.

        Raises:
            UsageError: it cannot. ``lite`` keeps nothing of an image that tells the scores of its own tags.
        """
        if not self._can_retag:
            raise UsageError(
                f"{self.name} must see the images again for its own tags with other thresholds: run `ramq enqueue "
                f"SOURCE --vocabulary {self.recognizer.vocabulary.name}`"
            )
        return cast("Retagger", self.recognizer)

    @property
    def _can_retag(self) -> bool:
        return hasattr(self.recognizer, "retags_from")

    def submit(self, pixels: NDArray[np.uint8], features: str) -> Pending:
        """Begin to recognise (B, S, S, 3) pixels. On a GPU this returns before the GPU has computed.

        ``features`` is what the job was asked to keep: see ``features_kept``.
        """
        kept = features_kept(self.name, features)
        if isinstance(self.recognizer, RecognizesAhead):
            return self.recognizer.submit(pixels, features=None if kept == "none" else kept)
        if kept == "none":
            return Done(self.recognizer.predict(pixels))
        return Done(cast("Any", self.recognizer).predict(pixels, features=kept))

    def caption_of_tags(self, prediction: Prediction) -> str | None:
        """Return the sentence that the template composes from the assigned tags."""
        # The own tags of `lite`, with any thresholds, all name things. Those that people taught it mostly do.
        plain = getattr(self.recognizer, "base", self.recognizer)
        are_things = plain.spec.model == "lite" and not hasattr(plain, "retags_from")
        return template_caption(self._assigned(prediction), are_things=are_things)

    def captions(
        self, captioner: str, pixels: NDArray[np.uint8], predictions: Sequence[Prediction]
    ) -> list[str | None]:
        """Return a caption for each of (B, S, S, 3) pixels, written by ``captioner`` (None for ``none``)."""
        if captioner == "none":
            return [None] * len(predictions)
        if captioner == "template":
            return [self.caption_of_tags(prediction) for prediction in predictions]
        assigned = [self._assigned(prediction) for prediction in predictions]
        return list(self.captioner.sentences(self.name, self.recognizer.preprocessing, pixels, assigned))

    def _assigned(self, prediction: Prediction) -> list[str]:
        above = prediction.scores > self.thresholds[prediction.tag_ids]
        order = prediction.scores[above].argsort()[::-1]
        names = self.recognizer.vocabulary.names
        return [names[tag] for tag in prediction.tag_ids[above][order].tolist()]


def load_here(name: str, options: ModelOptions, precision: str) -> Any:
    """Load a model on this worker's device, in a number format.

    Raises:
        UnfitError: its files are missing or damaged, the device is missing, or there is too little memory. Another
            worker may have all of these.
    """
    try:
        return load_model(name, precision=precision, **options.arguments, **options.speed_ups(name))
    except ModelError as error:
        if isinstance(error, DeviceError):
            raise UnfitError(EVERYTHING, str(error)) from error
        raise UnfitError(of_model(name), str(error)) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise UnfitError(of_model(name), out_of_memory(name, error)) from error
        raise


def taught_recognizer(base: Recognizer, vocabulary: TagVocabulary, rows: Sequence[HeadRow]) -> TaughtRecognizer:
    """Return a model with the heads that were taught. Raises ``VocabularyError`` if they are of another model."""
    from ram_core.teaching.heads import Head, heads_sha256  # noqa: PLC0415  (few jobs need them)
    from ram_core.teaching.recognizer import TaughtRecognizer  # noqa: PLC0415

    heads = [
        Head(row.tag_id, cast("Any", row.method), np.frombuffer(row.weights, "<f4"), row.own, row.bias) for row in rows
    ]
    kind = teaches_from(base.spec.model)
    return TaughtRecognizer(base, replace(vocabulary, taught=heads_sha256(heads)), heads, cast("Any", kind))


class ModelHolder:
    """Loads models and registers their generations.

    Args:
        engine: the database.
        options: device and folders.
        pinned: the only model that this worker runs; None: any.
        stages: the models of further stages; None: this worker only recognises.
        recognises: whether it recognises. If not, it only does the further stages.
    """

    def __init__(
        self,
        engine: Engine,
        options: ModelOptions,
        pinned: str | None,
        stages: StageHolder | None = None,
        *,
        recognises: bool = True,
    ) -> None:
        self._engine = engine
        self._options = options
        self._lock = threading.Lock()
        self._device = options.device
        self._captioner = SharedCaptioner(options, load_here)
        # By name, the one used longest ago first. In each, variants by vocabulary id, which share its weights; None is
        # the model with its own tags.
        self._loaded: dict[str, dict[int | None, LoadedModel]] = {}
        self.pinned = pinned
        self.stages = stages or StageHolder(StageOptions(options.device, options.models_dir))
        self.runs = (*((RECOGNITION,) if recognises else ()), *self.stages.kinds)
        """The stages that this worker does."""
        self.other_generations: set[int] = set()
        """Generations of jobs that were refused here: their model has the same name but other weights."""

    @property
    def served(self) -> tuple[str, ...] | None:
        """The models of recognition that this worker takes jobs for; None for any."""
        return None if self.pinned is None else (self.pinned,)

    @property
    def names(self) -> tuple[str, ...]:
        """What this worker takes jobs for, as wake-ups name it: models of recognition, and further stages."""
        recognisers = (self.served or ANY_MODEL) if RECOGNITION in self.runs else ()
        return (*recognisers, *self.stages.kinds)

    def weights(self) -> list[str]:
        """Return the models whose weights are here. They may be pulled while this worker runs."""
        return installed(self._options.models_dir)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded models, the one used last at the end."""
        return tuple(self._loaded)

    def may_follow(self, held: Iterable[str]) -> tuple[str, ...]:
        """Return the models whose shards may be claimed while those of ``held`` are in the pipeline."""
        return tuple({*held, *(name for name in self.loaded if self.served is None or name in self.served)})

    @property
    def current(self) -> str | None:
        """The name of the model used last."""
        return next(iter(self.loaded[-1:]), None)

    @property
    def device(self) -> str:
        """The device of the models. Before the first one is loaded, the device that was requested."""
        return self._device

    def check(self) -> None:
        """Raise ``UnfitError`` if the device is missing, or if the only model of this worker cannot be loaded."""
        if RECOGNITION not in self.runs:
            return
        if self.pinned is not None:
            self.get(self.pinned)
            return
        try:
            self._device = str(self._options.arguments.get("device", self._device))
        except DeviceError as error:
            raise UnfitError(EVERYTHING, str(error)) from error

    def get(self, name: str, vocabulary_id: int | None = None) -> LoadedModel:
        """Return a model. If it is not loaded and memory is short, unload others, those used longest ago first.

        Args:
            name: name of the model.
            vocabulary_id: vocabulary to use instead of the model's own.

        Raises:
            UnfitError: the model cannot be loaded here; the message says what to do.
            UsageError: no worker can use these tags with the model.
        """
        with self._lock:
            variants = self._loaded.pop(name, None) or {None: self._load_in_room(name)}
            self._loaded[name] = variants  # at the end
            if vocabulary_id not in variants:
                variants[vocabulary_id] = self._with_vocabulary(variants[None], vocabulary_id)
            return variants[vocabulary_id]

    def release_idle(self, kept: Collection[str]) -> bool:
        """Unload every model but these. Return whether there was any."""
        with self._lock:
            has_captioner = CAPTIONER not in kept and self._captioner.release()
            return self._unload([name for name in self._loaded if name not in kept]) or has_captioner

    def _unload(self, names: Sequence[str]) -> bool:
        for name in names:
            log.info("unloading model", model=name)
            del self._loaded[name]
        gc.collect()
        return bool(names)

    def _load_in_room(self, name: str) -> LoadedModel:
        while not has_room(name, self._options.models_dir, self._device):
            if not self._captioner.release() and not self._unload(self.loaded[:1]):
                break
        try:
            return self._load(name)
        except UnfitError as error:
            cause = error.__cause__
            if not isinstance(cause, Exception) or not is_out_of_memory(cause):
                raise
            if not (self._captioner.release() | self._unload(self.loaded)):
                raise
        return self._load(name)

    def _with_vocabulary(self, model: LoadedModel, vocabulary_id: int | None) -> LoadedModel:
        assert vocabulary_id is not None
        with unit_of_work(self._engine) as session:
            vocabulary = tag_vocabulary(session, vocabulary_id)
            heads = teachings.heads(session, vocabulary_id)
            basis = teachings.basis(session, vocabulary_id)
            base = tag_vocabulary(session, basis.base_id) if heads else vocabulary
        log.info("embedding vocabulary", model=model.name, vocabulary=vocabulary.name, tags=len(vocabulary))
        try:
            recognizer = cast("Retagger", model.recognizer).with_vocabulary(base)
            if heads:
                # Heads score what the image encoder sees, and nothing certifies that.
                recognizer = recognizer.exactly() if hasattr(recognizer, "exactly") else recognizer
                recognizer = taught_recognizer(recognizer, vocabulary, heads)
        except VocabularyError as error:  # the job's fault: no other worker could do it either
            raise UsageError(
                f"the vocabulary {vocabulary.name!r} does not fit the model {model.name}: {error}"
            ) from error
        thresholds = recognizer.vocabulary.thresholds
        basis_of_heads = basis if heads else None
        return LoadedModel(model.name, recognizer, thresholds, self._captioner, basis_of_heads, model.number_format)

    def _load(self, name: str) -> LoadedModel:
        log.info("loading model", model=name, device=self._options.device)
        chosen = self._chosen(name)
        recognizer = load_here(name, self._options, chosen.name)
        self._device = str(self._options.arguments.get("device", self._device))
        log.info("model is ready", model=name, device=self._device, precision=chosen.name, because=chosen.why)
        thresholds = recognizer.vocabulary.thresholds
        return LoadedModel(name, recognizer, thresholds, self._captioner, number_format=chosen.name)

    def _chosen(self, name: str) -> TagPrecision:
        try:
            return self._options.chosen(name)
        except DeviceError as error:
            raise UnfitError(EVERYTHING, str(error)) from error

    def is_fit_for(self, shard: ClaimedShard) -> bool:
        """Return whether the model here produces the generation that a shard's job belongs to.

        A shard of a further stage is compared with the model of that stage.

        Raises:
            UnfitError: the model cannot be loaded here; the message says what to do.
        """
        if shard.stage == RECOGNITION:
            ours: str = self.get(shard.model, shard.vocabulary_id).recognizer.spec.fingerprint
        else:
            ours = self.stages.get(shard.stage, shard.model).spec.fingerprint
            if ours != shard.fingerprint:  # the weights may have been replaced since they were loaded
                ours = self.stages.get_new(shard.stage, shard.model).spec.fingerprint
        if ours != shard.fingerprint:
            self.other_generations.add(shard.generation_id)
        return ours == shard.fingerprint

    def register(self, session: Session, name: str, vocabulary_id: int | None = None) -> int:
        """Return the id of a model's generation. It cannot be dropped before the transaction ends.

        The id is looked up for each job and not cached: a generation may be dropped while the model stays loaded.

        Raises:
            UnfitError: the model cannot be loaded here; the message says what to do.
        """
        recognizer = self.get(name, vocabulary_id).recognizer
        spec, vocabulary = recognizer.spec, recognizer.vocabulary
        return generations.ensure(
            session,
            generations.GenerationSpec(
                fingerprint=spec.fingerprint,
                model=spec.model,
                weights_sha256=spec.weights_sha256,
                preprocessing=spec.preprocessing,
                vector_kind=spec.vector_kind,
                vector_size=spec.vector_size,
            ),
            VocabularySpec(
                sha256=vocabulary.sha256,
                name=vocabulary.name,
                names=vocabulary.names,
                names_zh=vocabulary.names_zh,
                thresholds=[float(threshold) for threshold in vocabulary.thresholds],
                descriptions=vocabulary.descriptions,
                synonyms=vocabulary.synonyms,
            ),
        )
