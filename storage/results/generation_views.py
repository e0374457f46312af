"""Generations, their index and their vocabularies as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class GenerationView:
    """What made a set of results, and whether search uses it unless told otherwise."""

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
    """The published index of one generation, against the database.

    Attributes:
        listed_segments: those large enough to be searched by way of lists; the others are scanned.
        lowest_recall: the least share of the nearest ten that was measured in any of them; None if all are scanned.
    """

    generation_id: int
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


@dataclass(frozen=True, slots=True)
class GenerationState(GenerationView):
    """A generation, how much it has recorded, and what stands in the way of dropping it.

    Attributes:
        images: recorded with it.
        open_jobs: running or paused jobs that record with it.
        is_former: it served search before the present one: where a rollback leads.
    """

    images: int
    open_jobs: int
    is_former: bool
    index: IndexView


@dataclass(frozen=True, slots=True)
class TagChange:
    """One tag in two generations, by its name.

    Attributes:
        is_in_a: the vocabulary of the first has it.
        is_in_b: the vocabulary of the second has it.
        count_a: images that have it in the first, of all that are compared.
        count_b: likewise in the second.
        kept: images recorded in both that have it in both.
        gained: of these, how many have it in the second only; some of them in ``gained_images``.
        lost: of these, how many have it in the first only; some of them in ``lost_images``.
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
    """What changed between two generations.

    Attributes:
        images_a: images recorded in the first.
        images_b: images recorded in the second.
        images_both: images recorded in both: what is gained, lost and kept is about these.
        images_changed: those of them whose assigned tags differ.
        tags: the tags that either assigns, those that change most first.
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
    """What dropping a generation erased."""

    generation_id: int
    records: int
    vectors: int
    features: int
