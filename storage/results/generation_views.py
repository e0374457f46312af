"""Generations, their index and their vocabularies as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class GenerationView:
    """What made a set of results, and whether search uses it by default."""

    id: int
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int
    vocabulary: str
    tags: int
    is_default: bool
    created_at: datetime
    served_until: datetime | None


@dataclass(frozen=True, slots=True)
class IndexView:
    """The published index of one generation, compared with the database.

    Attributes:
        stage: what has the vectors: ``recognition``: images; ``crops``: regions of images.
        listed_segments: number of segments large enough to be searched by lists; the others are scanned.
        lowest_recall: lowest measured recall of the nearest ten among them; None if all are scanned.
    """

    generation_id: int
    stage: str
    model: str
    manifest: int | None
    segments: int
    listed_segments: int
    lowest_recall: float | None
    vectors_indexed: int
    vectors_stored: int
    delta: int
    bytes: int
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class VocabularyView:
    """A list of tags, and the generations that were made with it."""

    id: int
    name: str
    tags: int
    sha256: str
    generations: list[int]


@dataclass(frozen=True, slots=True)
class VocabularyTag:
    """One tag of a vocabulary. ``threshold`` is in 0..1."""

    id: int
    name: str
    name_zh: str | None
    threshold: float
    descriptions: list[str] | None
    synonyms: list[str]


@dataclass(frozen=True, slots=True)
class GenerationState(GenerationView):
    """A generation, the number of its records, and what prevents dropping it.

    Attributes:
        images: number of images recorded with it.
        open_jobs: running or paused jobs that record with it.
        is_former: whether it served search before the current one; a rollback returns to it.
    """

    images: int
    open_jobs: int
    is_former: bool
    index: IndexView


@dataclass(frozen=True, slots=True)
class TagChange:
    """One tag in two generations, by its name.

    Attributes:
        is_in_a: whether the first vocabulary has it.
        is_in_b: whether the second vocabulary has it.
        count_a: number of compared images that have it in the first.
        count_b: likewise in the second.
        kept: images recorded in both that have it in both.
        gained: images recorded in both that have it only in the second; some of them are in ``gained_images``.
        lost: images recorded in both that have it only in the first; some of them are in ``lost_images``.
    """

    name: str
    is_in_a: bool
    is_in_b: bool
    count_a: int
    count_b: int
    kept: int
    gained: int
    lost: int
    gained_images: list[int]
    lost_images: list[int]


@dataclass(frozen=True, slots=True)
class GenerationComparison:
    """Differences between two generations.

    Attributes:
        images_a: number of images recorded in the first.
        images_b: number of images recorded in the second.
        images_both: number of images recorded in both; gained, lost and kept refer to these.
        images_changed: number of those whose assigned tags differ.
        tags: the tags that either assigns, most changed first.
    """

    a: GenerationView
    b: GenerationView
    images_a: int
    images_b: int
    images_both: int
    images_changed: int
    tags: list[TagChange]


@dataclass(frozen=True, slots=True)
class DropReport:
    """What was erased by dropping a generation."""

    generation_id: int
    records: int
    vectors: int
    features: int
