"""A model with taught tags: its own tags, some of them mended, and new ones behind them.

The scores of the other tags are exactly those of the model. From what is recorded, the tags of an image are computed
without the picture: the recorded scores, and heads on the kept features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ram_core.errors import VocabularyError
from ram_core.recognition import Prediction, recognize
from ram_core.teaching.heads import OWN_FLOORS, own_logit, sigmoid
from ram_core.teaching.inputs import inputs
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.recognition import ModelSpec, Preprocessing, Recognition, Recognizer, Retagger
    from ram_core.teaching.heads import Head
    from ram_core.teaching.inputs import Kind

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of an image.

    Attributes:
        tag_ids: (K,) int32, ascending.
        scores: (K,) float32.
        vector: (D,) float32.
        same: tags that a head gave their scores, the same one as here: their scores are kept.
        other: tags that another head gave their scores, which are computed again.
        is_of_base: whether ``tag_ids`` are of the vocabulary that was taught. If not, all are computed again.
    """

    tag_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    vector: NDArray[np.float32]
    same: Collection[int] = ()
    other: Collection[int] = ()
    is_of_base: bool = True


class TaughtRecognizer:
    """A model with heads. Implements ``ram_core.recognition.Recognizer``.

    Args:
        base: the model with the tags that were taught further. It keeps ``kind``.
        vocabulary: the tags of ``base`` under their ids, with thresholds of their own, and the new ones behind them.
        heads: of mended and new tags, each once. Every new tag has one.
        kind: of the features on which they were fitted.

    Raises:
        VocabularyError: the vocabulary or the heads do not fit the model.
    """

    retags_from: Literal["record"] = "record"

    def __init__(self, base: Recognizer, vocabulary: TagVocabulary, heads: Sequence[Head], kind: Kind) -> None:
        own = len(base.vocabulary)
        if vocabulary.names[:own] != base.vocabulary.names:
            raise VocabularyError(f"{vocabulary.name!r} does not begin with the tags of {base.vocabulary.name!r}")
        missing = set(range(own, len(vocabulary))) - {head.tag_id for head in heads}
        if missing:
            raise VocabularyError(f"the tag {vocabulary.names[min(missing)]!r} of {vocabulary.name!r} was never taught")
        self.base = base
        self._vocabulary = vocabulary
        self._kind = kind
        self._linear = [head for head in heads if head.is_linear]
        self._need_own = {head.tag_id for head in self._linear if head.method == "own+head"}
        self._described = [head.tag_id for head in heads if head.method == "description"]
        self._by_name: Retagger | None = None
        self._replaced = np.array([head.tag_id for head in heads if head.method != "threshold"], dtype=np.int32)

    @property
    def spec(self) -> ModelSpec:
        """The specification of this model's generation. The vocabulary's hash is also that of the heads."""
        return replace(self.base.spec, vocabulary_sha256=self._vocabulary.sha256)

    @property
    def vocabulary(self) -> TagVocabulary:
        """The tags."""
        return self._vocabulary

    @property
    def preprocessing(self) -> Preprocessing:
        """The transform from a decoded image to pixels."""
        return self.base.preprocessing

    @property
    def score_floor(self) -> float:
        """Scores below this are not stored."""
        return min(self.base.score_floor, float(self._vocabulary.thresholds.min()))

    def with_vocabulary(self, vocabulary: TagVocabulary) -> Recognizer:
        """Return the same model for other tags, without heads."""
        return cast("Retagger", self.base).with_vocabulary(vocabulary)

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: str | None = None
    ) -> list[Prediction]:
        """Recognise (B, S, S, 3) pixels. Captions are those of the model, which knows nothing of the heads.

        ``features`` are kept as the model keeps them; for what is only ``global``, the others are computed and dropped.
        """
        seen: list[Prediction] = cast("Any", self.base).predict(pixels, caption=caption, features=self._kind)
        if not seen:
            return []
        rows = np.stack([one.features for one in seen if one.features is not None])
        found = self._with_heads(seen, rows)
        if features is None:
            return [replace(one, features=None) for one in found]
        if features == "global":
            whole = 2 * self.base.spec.vector_size  # the global token comes first, in float16
            return [replace(one, features=row[:whole].copy()) for one, row in zip(found, rows, strict=True)]
        return found

    def recognize(self, images: Sequence[Image.Image], *, caption: bool = True) -> list[Recognition]:
        """Recognise images: assigned tags, vector, and a caption if the model can write one."""
        return recognize(self, images, caption=caption, batch_size=_BATCH)

    def retag_recorded(self, rows: NDArray[np.uint8], recorded: Sequence[Recorded]) -> list[Prediction]:
        """Predict from (B, R) packed features and what is recorded of these images.

        Raises:
            FeaturesError: the features are of another kind or model.
        """
        again: list[Prediction] | None = None
        own = []
        for at, record in enumerate(recorded):
            # The model's own scores of these are not recorded. They matter without a head, or where it uses them.
            lost = {tag for tag in record.other if tag in self._need_own or tag not in self._replaced}
            if not record.is_of_base or lost:
                again = again or self._own_scores(rows, recorded)
            if not record.is_of_base:
                assert again is not None
                own.append(replace(again[at], vector=record.vector))
                continue
            plain = record.tag_ids < len(self.base.vocabulary)
            plain &= ~_among(record.tag_ids, [*record.same, *record.other])
            one = Prediction(record.tag_ids[plain], record.scores[plain], record.vector)
            own.append(one if again is None or not lost else _merged(one, again[at], lost))
        found = self._with_heads(own, rows)
        return [_as_recorded(one, record) for one, record in zip(found, recorded, strict=True)]

    def _own_scores(self, rows: NDArray[np.uint8], recorded: Sequence[Recorded]) -> list[Prediction]:
        """Return what the model itself finds in images, from what is kept of them."""
        base: Any = self.base
        if hasattr(base, "scores_of_features"):
            found = []
            for scores, record in zip(base.scores_of_features(rows), recorded, strict=True):
                ids = np.flatnonzero(scores >= base.score_floor).astype(np.int32)
                found.append(Prediction(ids, scores[ids], record.vector))
            return found
        kept = np.stack([record.vector for record in recorded]) if base.retags_from == "vector" else rows
        again: list[Prediction] = base.retag(kept)
        return again

    def _with_heads(self, seen: Sequence[Prediction], rows: NDArray[np.uint8]) -> list[Prediction]:
        """Return predictions with the scores of heads in place of the model's own."""
        tables = [self._scores(seen, rows)]  # (B, K) scores, by the tags of ``_ids``
        if self._described:
            tables.append(self._scores_by_name(rows))
        ids = np.array([*(head.tag_id for head in self._linear), *self._described], dtype=np.int32)
        order, floor = np.argsort(ids), self.score_floor
        found = []
        for one, scores in zip(seen, np.concatenate(tables, axis=1), strict=True):
            plain = ~np.isin(one.tag_ids, self._replaced)
            kept = order[scores[order] >= floor]
            tag_ids = np.concatenate([one.tag_ids[plain], ids[kept]])
            both = np.argsort(tag_ids, kind="stable")
            values = np.concatenate([one.scores[plain], scores[kept]]).astype(np.float32)
            found.append(replace(one, tag_ids=tag_ids[both], scores=values[both]))
        return found

    def _scores(self, seen: Sequence[Prediction], rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, H) scores of the linear heads."""
        if not self._linear:
            return np.empty((len(seen), 0), dtype=np.float32)
        x = inputs(rows, self._kind, self.base.spec.vector_size)
        columns = []
        for head in self._linear:
            if head.weights.shape != x.shape[1:]:
                raise VocabularyError(f"the head of {self._vocabulary.names[head.tag_id]!r} is of another model")
            columns.append(head.logits(x, own_logit(scores_of(seen, head.tag_id), OWN_FLOORS[self._kind])))
        return sigmoid(np.stack(columns, axis=1))

    def _scores_by_name(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, H) scores of the tags that the model scores by their names, from image tokens."""
        if self._by_name is None:
            names = TagVocabulary.from_names("taught", [self._vocabulary.names[tag] for tag in self._described])
            self._by_name = cast("Retagger", cast("Retagger", self.base).with_vocabulary(names))
        table = np.zeros((len(rows), len(self._described)), dtype=np.float32)
        for at, one in enumerate(self._by_name.retag(rows)):
            table[at, one.tag_ids] = one.scores
        return table


def scores_of(seen: Sequence[Prediction], tag_id: int) -> NDArray[np.float32]:
    """Return (B,) scores of one tag; 0 where it is not stored."""
    return np.array([one.scores[one.tag_ids == tag_id].sum() for one in seen], dtype=np.float32)


def _as_recorded(one: Prediction, record: Recorded) -> Prediction:
    """Return a prediction with the recorded scores of the tags that have the same heads as before."""
    if not record.is_of_base or not record.same:
        return one
    rest = ~_among(one.tag_ids, record.same)
    before = Prediction(record.tag_ids, record.scores, record.vector)
    return _merged(replace(one, tag_ids=one.tag_ids[rest], scores=one.scores[rest]), before, record.same)


def _merged(one: Prediction, other: Prediction, tags: Collection[int]) -> Prediction:
    """Return a prediction, which has none of these tags, with their scores from another."""
    added = _among(other.tag_ids, tags)
    tag_ids = np.concatenate([one.tag_ids, other.tag_ids[added]])
    order = np.argsort(tag_ids, kind="stable")
    return replace(one, tag_ids=tag_ids[order], scores=np.concatenate([one.scores, other.scores[added]])[order])


def _among(tag_ids: NDArray[np.int32], tags: Collection[int]) -> NDArray[np.bool_]:
    return np.isin(tag_ids, np.fromiter(tags, dtype=np.int32, count=len(tags)))
