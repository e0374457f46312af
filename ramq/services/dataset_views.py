"""What is asked of data sets, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.datasets.items import Item
    from storage.datasets.labels import Label
    from storage.datasets.versions import VersionView
    from storage.results.tags import Names


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a version is built from.

    Attributes:
        sources: archives and folders in them, searches, manifests; see ``dataset_gathering``.
        captions: a file of captions that this process can read.
        caption_column: the column of captions, of manifests and of ``captions``. None: found by its name.
        validation: about how much of the pictures is for validation, 0..1.
        near: pictures whose vectors have at least this cosine are near copies, above 0 to 1. None: 0.9 for what
            ``lite`` keeps of pictures, 0.97 for other vectors.
        vocabulary: a name that ``ramq vocab list`` shows. None: that of the generation in use.
    """

    sources: Sequence[str]
    captions: str | None = None
    caption_column: str | None = None
    validation: float = 0.1
    near: float | None = None
    vocabulary: str | None = None


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """How a file becomes a version of a data set.

    Attributes:
        name: of the data set.
        images: where the paths in the file begin: a URI, or a folder of an archive. None: they are keys, or whole.
        caption_column: the column of captions. None: found by its name.
        validation, near, vocabulary: as in ``BuildRequest``, where the file does not tell splits.
    """

    name: str
    images: str | None = None
    caption_column: str | None = None
    validation: float = 0.1
    near: float | None = None
    vocabulary: str | None = None


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag of a version: pictures that keep it, that lost it by reason, and origins of those that keep it."""

    tag_id: int
    name: str
    kept: int
    dropped: dict[str, int]
    origins: dict[str, int]


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A tag of a picture; see ``storage.datasets.labels.Label``."""

    tag_id: int
    name: str
    origins: list[str]
    reason: str | None
    certainty: float | None
    evidence: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PictureView:
    """A picture of a version with everything that is known of it."""

    image_id: int
    uri: str
    is_validation: bool
    group_id: int | None
    captions: list[dict[str, str]]
    labels: list[LabelRow]


@dataclass(frozen=True, slots=True)
class TagDifference:
    """How many pictures have a tag in the new version only, and in the old one only."""

    tag_id: int
    name: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What two versions of a data set differ in. Counts are those of when they were made."""

    old: VersionView
    new: VersionView
    tags: list[TagDifference] = field(default_factory=list)


def picture_view(item: Item, uri: str, labels: Sequence[Label], names: Names) -> PictureView:
    """Return what is known of a picture of a version."""
    rows = [
        LabelRow(
            label.tag_id,
            names.names[label.tag_id],
            list(label.origins),
            label.reason,
            label.certainty,
            None if label.evidence is None else dict(label.evidence),
        )
        for label in labels
    ]
    captions = [{"caption": text, "origin": origin} for text, origin in zip(item.captions, item.origins, strict=True)]
    return PictureView(item.image_id, uri, item.is_validation, item.group_id, captions, rows)
