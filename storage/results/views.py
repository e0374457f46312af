"""Archives, and one image with its tags and history, as people see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from storage.results.keywords import KeywordView
    from storage.results.metadata import MetadataView

COMPOSED = "template"
"""The captioner that composes sentences from tags. It wrote nothing where there was no tag."""


@dataclass(frozen=True, slots=True)
class TagView:
    """A tag of an image. ``score`` is in 0..1. ``threshold`` is the one used in this answer.

    A tag that a person added has the source ``person`` and the score 1. It is assigned whatever the threshold.
    """

    id: int
    name: str
    name_zh: str | None
    score: float
    threshold: float
    source: Literal["model", "person"] = "model"

    @property
    def is_assigned(self) -> bool:
        """Whether the image has the tag in this answer."""
        return self.source == "person" or self.score > self.threshold


@dataclass(frozen=True, slots=True)
class CorrectionView:
    """A correction: whether an image has a tag. ``said_by`` is the name of a token, or ``local``."""

    name: str
    is_present: bool
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A rule for a tag in an archive (None: in all).

    ``kind``: only allowed tags count (``allow``), it does not count (``deny``), or it is not looked for in pictures
    because it names no thing (``no_thing``).
    """

    name: str
    kind: str
    archive: str | None
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class HistoryView:
    """One outcome of an image: a result or a failure of a stage, with its job and generation."""

    at: datetime
    job_id: int
    generation_id: int
    stage: str
    model: str
    outcome: Literal["recorded", "failed"]
    version: str
    error_class: str | None = None
    detail: str | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class VectorView:
    """A vector that an image has.

    Attributes:
        space: ``text`` for that of recognition, or one of ``spaces.SPACES``.
        model: what made it.
        generation_id: its generation.
        length: number of its numbers.
    """

    space: str
    model: str
    generation_id: int
    length: int


@dataclass(frozen=True, slots=True)
class ImageView:
    """Everything known about one image. ``tags`` holds every stored score, assigned or not.

    ``corrections`` are people's changes. Tags that they removed are not in ``tags``. ``caption_contradicts`` are the
    removed tags that the caption of a model names. ``metadata`` is what the file says; None: it was not read.
    ``precision`` is the number format behind the tags, one of ``PRECISIONS``; None: not recorded.
    ``duplicates`` is how many images have the same bytes, this one included. ``keywords`` are the words that people
    gave it; those in the file are in ``metadata``.
    ``duplicates`` is how many images have the same bytes, this one included, and ``near_copies`` how many are in its
    group of near copies. ``truncated``, ``tiles`` and ``pages`` say how the picture was read if not as a whole: see
    ``results.openings``. ``page`` is the number of the page that it is, from 1, if the file has several, of which
    ``page_images`` are images; ``previous_page`` and ``next_page`` are the ids of its neighbours. ``file_key`` is the
    key of the file.
    """

    image_id: int
    key: str
    archive: str
    uri: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    missing_since: datetime | None
    width: int | None
    height: int | None
    caption: str | None
    captioner: str | None
    generation_id: int | None
    model: str | None
    precision: str | None
    tags: list[TagView]
    history: list[HistoryView]
    corrections: list[CorrectionView]
    is_corrected: bool = False
    has_denied_tags: bool = False
    vectors: list[VectorView] = field(default_factory=list)
    metadata: MetadataView | None = None
    caption_contradicts: tuple[str, ...] = ()
    duplicates: int = 1
    keywords: list[KeywordView] = field(default_factory=list)
    near_copies: int = 1
    truncated: float | None = None
    tiles: int | None = None
    pages: int | None = None
    page: int | None = None
    file_key: str = ""
    previous_page: int | None = None
    next_page: int | None = None
    page_images: int = 1

    @property
    def removed(self) -> list[str]:
        """The names of the tags that people removed."""
        return [said.name for said in self.corrections if not said.is_present]


@dataclass(frozen=True, slots=True)
class ArchiveView:
    """An archive: the number of listed keys, and of keys that a later listing did not find.

    ``recorded`` counts the images with a record of the generation that serves search.
    """

    id: int
    uri: str
    images: int
    recorded: int
    missing: int
    created_at: datetime
