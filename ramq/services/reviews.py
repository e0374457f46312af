"""Reviews: what people say of the tags that a data set's steps dropped or added."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from storage.database import unit_of_work
from storage.datasets import reviews, versions
from storage.datasets.review_views import MOST_AT_ONCE, Last, Review, Said, TagTally, Tally
from storage.datasets.reviews import Subject
from storage.errors import NotFoundError, UsageError
from storage.page import Page
from storage.search.cursors import decode_cursor, encode_cursor
from storage.texts import id_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.images import ImageClient
    from storage.datasets.review_views import Decision, What
    from storage.datasets.versions import VersionView
    from storage.results.tags import Names
    from storage.search.search import Search


class ReviewClient:
    """Reviews of data sets. Thread-safe; every method is one transaction.

    A version is named ``NAME`` (the newest that is done) or ``NAME@NUMBER``, a tag by name or id.

    Args:
        engine: the database.
        search: loads the vocabularies.
        images: makes pictures of crops.
    """

    def __init__(self, engine: Engine, search: Search, images: ImageClient) -> None:
        self._engine = engine
        self._search = search
        self._images = images

    def progress(self, named: str) -> Review:
        """Count what waits for an answer and what was answered. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            version = versions.find(session, named)
            names = self._search.vocabulary(session, version.vocabulary_id)
            found = reviews.tallies(session, version.dataset_id, version.id)
            tags = [_tally(names, tag_id, found) for tag_id in {tag_id for tag_id, _ in found}]
            tags.sort(key=lambda tag: (-tag.dropped.waiting - tag.added.waiting, tag.name.lower(), tag.id))
            return Review(
                version,
                sum((tag.dropped for tag in tags), Tally()),
                sum((tag.added for tag in tags), Tally()),
                tags,
                reviews.people(session, version.dataset_id),
            )

    def tag(self, named: str, tag: str) -> tuple[VersionView, TagTally]:
        """Return the version, and how far the review of one tag is. Raises ``NotFoundError``, ``UnknownTagError``."""
        with unit_of_work(self._engine) as session:
            version, of = self._find(session, named, tag)
            names = self._search.vocabulary(session, version.vocabulary_id)
            found = reviews.tallies(session, version.dataset_id, version.id, of.tag_id)
            return version, _tally(names, of.tag_id, found)

    def waiting(
        self, named: str, tag: str, what: What = "dropped", *, limit: int = 24, cursor: str | None = None
    ) -> Page[Decision]:
        """Return the decisions about a tag that wait for an answer, least certain first.

        Nothing comes twice, and nothing is left out, if others are answered between two pages.

        Args:
            named: the version.
            tag: the tag.
            what: tags that were dropped, or added.
            limit: at most so many, up to 500.
            cursor: ``next_cursor`` of the page before.

        Raises:
            NotFoundError: there is no such version.
            UsageError: the vocabulary has no such tag, or the cursor is of another list.
        """
        with unit_of_work(self._engine) as session:
            _, of = self._find(session, named, tag)
            bound = f"{what} {of.tag_id} of {of.version_id}"
            after = None
            if cursor is not None:
                bits, image_id = decode_cursor(cursor, 2, bound)
                after = _number(bits), image_id
            found = reviews.waiting(session, of, what, limit=limit + 1, after=after)
        if len(found) <= limit:
            return Page(found)
        certainty, image_id = found[limit - 1].place
        return Page(found[:limit], encode_cursor((_bits(certainty), image_id), bound))

    def typical(self, named: str, tag: str, limit: int = 12) -> list[Decision]:
        """Return pictures that the version keeps under a tag, the most certain first."""
        with unit_of_work(self._engine) as session:
            return reviews.typical(session, self._find(session, named, tag)[1], limit)

    def say(self, named: str, tag: str, image_ids: Sequence[int], *, is_right: bool | None, by: str = LOCAL) -> Said:
        """Say that a step rightly dropped, or rightly added, a tag of these pictures, or not.

        The answers become corrections of the pictures' tag in the same transaction. A decision that has an answer keeps
        it, whoever gave it: take it back first.

        Args:
            named: the version.
            tag: the tag.
            image_ids: the pictures, at most 500.
            is_right: whether the step was right; None: take the author's own answers back, and their corrections.
            by: the author.

        Raises:
            NotFoundError: there is no such version, or it neither dropped nor added the tag in one of the pictures.
            UsageError: the vocabulary has no such tag, or there are no pictures, or too many.
        """
        if not image_ids:
            raise UsageError("no picture is chosen, so nothing was stored")
        if len(image_ids) > MOST_AT_ONCE:
            raise UsageError(f"at most {MOST_AT_ONCE} pictures can be answered at once")
        with unit_of_work(self._engine) as session:
            version, of = self._find(session, named, tag)
            if is_right is None:
                done, others = reviews.take_back(session, of, image_ids, by)
            else:
                done, others = reviews.put(session, of, image_ids, by, is_right=is_right)
            return Said(version, of.tag_id, of.name, done, others)

    def last(self, named: str, by: str = LOCAL) -> Last | None:
        """Return what a person answered last in a data set; None: nothing yet."""
        with unit_of_work(self._engine) as session:
            version = versions.find(session, named)
            names = self._search.vocabulary(session, version.vocabulary_id)
            found = reviews.last(session, version.dataset_id, by)
        if not found:
            return None
        first = found[0]
        ids = [answer.image_id for answer in found]
        return Last(first.tag_id, names.names[first.tag_id], first.was_dropped, first.is_right, ids)

    def crop(self, named: str, tag: str, image_id: int, side: int = 256) -> tuple[bytes, str]:
        """Return a JPEG of a tag's region in a picture, or of the whole picture if it has none, and its ETag.

        Args:
            named: the version.
            tag: the tag.
            image_id: the picture.
            side: maximum length of the longer side in pixels, rounded up to a kept size. Nothing is enlarged.

        Raises:
            NotFoundError: there is no such version, or it does not have this tag of this picture.
            PermanentError: the picture cannot be fetched or decoded.
        """
        with unit_of_work(self._engine) as session:
            version, of = self._find(session, named, tag)
            found = reviews.decision(session, of, image_id)
        if found is None:
            raise NotFoundError(f"{version.name} has no {of.name!r} in image {image_id}")
        return self._images.part(image_id, found.box or (0.0, 0.0, 1.0, 1.0), side)

    def _find(self, session: Session, named: str, tag: str) -> tuple[VersionView, Subject]:
        version = versions.find(session, named)
        names = self._search.vocabulary(session, version.vocabulary_id)
        tag_id = id_in(tag.strip(), below=len(names.names))
        if tag_id is None:
            found = names.find(tag)
            if len(found) > 1:
                ids = ", ".join(map(str, found))
                raise UsageError(f"several tags are called {tag!r}; give the id of one: {ids}")
            [tag_id] = found
        return version, Subject(version.dataset_id, version.id, tag_id, names.names[tag_id])


def _tally(names: Names, tag_id: int, found: Mapping[tuple[int, What], Tally]) -> TagTally:
    return TagTally(
        tag_id,
        names.names[tag_id],
        names.names_zh[tag_id],
        found.get((tag_id, "dropped"), Tally()),
        found.get((tag_id, "added"), Tally()),
    )


def _bits(certainty: float) -> int:
    """Return the 32 bits in which the database stores a certainty, so that a cursor has it exactly."""
    return int.from_bytes(struct.pack(">f", certainty))


def _number(bits: int) -> float:
    return float(struct.unpack(">f", (bits & 0xFFFF_FFFF).to_bytes(4))[0])
