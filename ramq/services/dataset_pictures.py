"""The pictures of a version with all that is known of them, one block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.datasets import items, labels, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from storage.datasets.labels import Label
    from storage.datasets.versions import VersionView
    from storage.results.tags import Names

_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a version.

    Attributes:
        image_id: the image.
        uri, key: where it is.
        path: what names it in a file: its key, or its URI in a version with pictures of several archives.
        width, height: in pixels; 0: not known.
        is_validation: its split.
        group_id: pictures with the same one are the same, or nearly.
        captions, origins: its captions, and where each is from.
        labels: its tags, dropped ones too, by id.
        page, file_key: which page of which file it is; None: the file has one.
    """

    image_id: int
    uri: str
    key: str
    path: str
    width: int
    height: int
    is_validation: bool
    group_id: int | None
    captions: Sequence[str]
    origins: Sequence[str]
    labels: Sequence[Label]
    page: int | None = None
    file_key: str = ""

    @property
    def kept(self) -> list[Label]:
        """The tags that it has."""
        return [label for label in self.labels if label.reason is None]

    @property
    def removed(self) -> frozenset[int]:
        """The ids of the tags that people said are not there."""
        return frozenset(label.tag_id for label in self.labels if label.reason == "removed")

    @property
    def dropped(self) -> list[Label]:
        """The tags that it lost."""
        return [label for label in self.labels if label.reason is not None]

    @property
    def split(self) -> str:
        """Its split, as files call it."""
        return "validation" if self.is_validation else "train"


@dataclass(frozen=True, slots=True)
class Content:
    """A version, as it is written to files.

    Attributes:
        version: the version.
        names: its vocabulary.
        most_captions: of a picture.
        is_of_one_archive: whether keys alone name its pictures.
    """

    version: VersionView
    names: Names
    most_captions: int
    is_of_one_archive: bool


def pictures(engine: Engine, content: Content, *, is_validation: bool | None = None) -> Iterator[Picture]:
    """Yield the pictures of a version by id, in bounded memory. ``is_validation``: only those of this split."""
    version = content.version
    after = 0
    while True:
        with unit_of_work(engine) as session:
            block = items.after(session, version.id, after, _BLOCK, is_validation=is_validation)
            ids = [item.image_id for item in block]
            found = labels.of_images(session, version.id, ids)
            named = sources.named(session, version.settings.get("generation", 0), ids)
        if not block:
            return
        for item in block:
            if (where := named.get(item.image_id)) is None:  # deleted just now
                continue
            yield Picture(
                item.image_id,
                where.uri,
                where.key,
                where.key if content.is_of_one_archive else where.uri,
                where.width,
                where.height,
                item.is_validation,
                item.group_id,
                item.captions,
                item.origins,
                found.get(item.image_id, ()),
                where.page,
                where.file_key,
            )
        after = ids[-1]
