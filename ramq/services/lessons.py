"""What a tag is learnt from: the kept features of images that people named, and of others taken at random."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from storage.errors import UsageError
from storage.index.manifest import DamagedError
from storage.results import corrections, features, teachings
from storage.search.language.lexer import tokens
from storage.search.language.tree import QuerySyntaxError
from storage.tables import SCORE_SCALE, Archive
from workers.messages import teaches_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ramq.services.teach_views import Wanted
    from storage.index.feature_files import FeatureFiles
    from storage.results.features import Kept
    from storage.results.tags import Names
    from storage.tables import Generation

AT_ONCE = 1024
"""Images whose features are read at a time: 77 MB with RAM."""
_UNPACKED_AT_ONCE = 128
"""Images whose features are unpacked at a time: with RAM, they take four times the memory then."""
LONGEST_NAME = 100
MOST_LEARNT = 1_000
"""Pictures named yes, and pictures named no, of which a tag is learnt: with RAM, 75 MB each. More hardly help."""

_SHOWN = 5
_UNSEEN = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | {chr(code) for code in range(0xFE00, 0xFE10)}
"""Characters that look like nothing, though Unicode counts them as letters, marks or symbols."""


class UnreadableError(UsageError):
    """Files of features cannot be read. ``files`` are the names of those that were read together."""

    def __init__(self, message: str, files: set[str]) -> None:
        super().__init__(message)
        self.files = files


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Images with their features.

    Attributes:
        ids: (B,) int64, ascending.
        rows: (B, R) uint8, as they are kept.
        kept: what is recorded of each.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.uint8]
    kept: list[Kept]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A tag, and the images of which it is learnt.

    Attributes:
        name: of the tag.
        tag_id: its id in the vocabulary; of a new one, the id that it will have.
        is_new: whether no tag has this name.
        named: the images that people named and that are learnt, with their features.
        is_yes: (B,) whether each of them has the tag.
        said: all that people named as having the tag, and as not having it, learnt or not.
    """

    name: str
    tag_id: int
    is_new: bool
    named: Block
    is_yes: NDArray[np.bool_]
    said: tuple[list[int], list[int]]

    @property
    def left_out(self) -> int:
        """How many are not learnt, since there are more than ``MOST_LEARNT``."""
        return len(self.said[0]) + len(self.said[1]) - len(self.named)

    def without_features(self) -> Lesson:
        """Return the lesson without what takes memory, to store what was learnt."""
        return replace(self, named=Block(self.named.ids, self.named.rows[:0], []))

    @property
    def yes(self) -> list[int]:
        """The images that have the tag."""
        return cast("list[int]", self.named.ids[self.is_yes].tolist())

    @property
    def no(self) -> list[int]:
        """The images that do not."""
        return cast("list[int]", self.named.ids[~self.is_yes].tolist())


class KeptFeatures:
    """The features of the images of one generation.

    Args:
        session: a transaction.
        files: the files of features.
        source: the generation.
    """

    def __init__(self, session: Session, files: FeatureFiles, source: Generation) -> None:
        self._session = session
        self._files = files
        self.source = source
        self.kind = teaches_from(source.model)
        self.basis = teachings.basis(session, source.vocabulary_id)
        self._vector_size = source.vector_size

    def known(self, ids: Sequence[int], optional: Sequence[int] = ()) -> dict[int, Kept]:
        """Return what is recorded of images that people named, all of them with features. ``read`` reads these.

        ``optional`` ones are left out if they are not recorded, or their features are not kept.

        Raises:
            UsageError: some of ``ids`` are not recorded, or their features are not kept. The message says what to do.
        """
        kept = features.kept(self._session, self.source.id, [*ids, *optional])
        if unknown := sorted(set(ids) - set(kept)):
            raise UsageError(
                f"generation {self.source.id}, which search uses, did not record {_named(unknown)}; enqueue the archive"
            )
        if without := sorted(image_id for image_id in set(ids) if kept[image_id].file is None):
            raise UsageError(f"the features of {_named(without)} are not kept; {self._how_to_keep(without)}")
        return {image_id: one for image_id, one in kept.items() if one.file is not None}

    def sample(self, count: int) -> Block:
        """Return images taken at random. The same ones each time."""
        return _joined(list(self._blocks(features.sample(self._session, self.source.id, count))))

    def blocks(self, most: int, without: Sequence[int]) -> Iterator[Block]:
        """Yield the features of images without these, ``AT_ONCE`` at a time: of all, or of ``most`` random ones."""
        excluded = set(without)
        ids = features.sample(self._session, self.source.id, most + len(excluded))
        return self._blocks([i for i in ids if i not in excluded][:most])

    def x(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, F) what heads take. Needs no transaction."""
        from ram_core.teaching.inputs import inputs  # noqa: PLC0415  (loads torch)

        parts = [
            inputs(rows[at : at + _UNPACKED_AT_ONCE], cast("Any", self.kind), self._vector_size)
            for at in range(0, len(rows), _UNPACKED_AT_ONCE)
        ]
        return np.concatenate(parts)

    def said_before(self, name: str) -> tuple[list[int], list[int]]:
        """Return the images that people said have a tag, and those that they said do not."""
        found = corrections.answers(self._session, name, least=0)
        return (found[0].yes, found[0].no) if found else ([], [])

    def require_all(self) -> None:
        """Raise ``UsageError`` if the features of an image are not kept."""
        stock = features.stock(self._session, self.source.id)
        if any(each.with_features < each.images for each in stock):
            raise UsageError(f"not all features are kept: {self._how_to_keep()}; or leave them out (--skip-missing)")

    def _blocks(self, ids: Sequence[int]) -> Iterator[Block]:
        for at in range(0, len(ids), AT_ONCE):
            kept = features.kept(self._session, self.source.id, ids[at : at + AT_ONCE])
            yield self.read({image_id: one for image_id, one in kept.items() if one.file is not None})

    def read(self, kept: dict[int, Kept]) -> Block:
        """Return the features of images, in the order of their ids. Raises ``UnreadableError``."""
        ids = sorted(kept)
        places = [(one.file or "", one.position or 0) for one in (kept[image_id] for image_id in ids)]
        try:
            rows = self._files.rows(places)
        except DamagedError as error:
            raise UnreadableError(f"{error}; make it readable again", {name for name, _ in places}) from error
        return Block(np.array(ids, dtype=np.int64), rows, [kept[image_id] for image_id in ids])

    def _how_to_keep(self, without: Sequence[int] = ()) -> str:
        """Return how many images lack features, and the command that keeps them: those of ``without`` above all."""
        stock = features.stock(self._session, self.source.id)
        images, kept = sum(each.images for each in stock), sum(each.with_features for each in stock)
        worst = min(stock, key=lambda each: each.with_features - each.images)
        place = self._session.get(Archive, worst.archive_id)
        uris = features.archives_of(self._session, self.source.id, without) or [
            "SOURCE" if place is None else place.uri
        ]
        commands = " and ".join(f"`RAMQ_FEATURES={self.kind} ramq enqueue {uri}`" for uri in uris)
        return f"{images - kept:,} of {images:,} images lack them: run {commands} once, which recognises these again"


def scores_of(kept: Sequence[Kept], tag_id: int) -> NDArray[np.float32]:
    """Return (B,) the recorded scores of a tag; 0 where none is stored."""
    found = np.zeros(len(kept), dtype=np.float32)
    for at, one in enumerate(kept):
        if tag_id in one.tags:
            found[at] = one.scores[one.tags.index(tag_id)] / SCORE_SCALE
    return found


def contents_of(near: str, x: NDArray[np.float32], records: Sequence[Kept]) -> NDArray[np.float32]:
    """Return (B, F) what tells copies, as in data sets: what ``lite`` keeps of pictures, else their vectors."""
    if near == "pooled":
        return x
    return np.stack([np.frombuffer(one.vector, dtype="<f2") for one in records]).astype(np.float32)


def _joined(blocks: Sequence[Block]) -> Block:
    full = [block for block in blocks if len(block)]
    if not full:
        return Block(np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.uint8), [])
    return Block(
        np.concatenate([block.ids for block in full]),
        np.concatenate([block.rows for block in full]),
        [one for block in full for one in block.kept],
    )


def _named(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")
    return f"image {shown}" if len(ids) == 1 else f"{len(ids)} of the named images ({shown})"


def lesson_of(kept: KeptFeatures, names: Names, wanted: Wanted, new_id: int) -> Lesson:
    """Return what is learnt of, with what people said about the tag before.

    Args:
        kept: the features.
        names: the vocabulary in use.
        wanted: the tag, and what is said now.
        new_id: the id of the tag if it is new.

    Raises:
        UsageError: the tag or an image cannot be used.
    """
    name = _checked(wanted.tag)
    tag_ids = names.ids(name)
    if len(tag_ids) > 1:
        numbers = ", ".join(map(str, tag_ids))
        raise UsageError(f"{len(tag_ids)} tags are called {name!r}; give the number of one: {numbers}")
    if not tag_ids and name.isdecimal():
        raise UsageError(f"{name} is not the number of a tag; a new tag needs a name with letters")
    if not tag_ids and not _is_plain(name):
        raise UsageError(f"a search for {name} would be read as something else; give the new tag a name of plain words")
    spelling = names.names[tag_ids[0]] if tag_ids else name
    yes, no = set(wanted.yes), set(wanted.no)
    if both := sorted(yes & no):
        raise UsageError(f"image {both[0]} is named both as {name!r} and as not {name!r}; name it once")
    before = kept.said_before(spelling)
    optional = [*before[0], *before[1]]
    known = kept.known(sorted(yes | no), [image_id for image_id in optional if image_id not in yes | no])
    has = yes | (set(before[0]) - no)
    said = (sorted(known.keys() & has), sorted(known.keys() - has))
    draw = random.Random(0)  # noqa: S311  (no secret: the same pictures each time)
    learnt = [one for ids in said for one in draw.sample(ids, min(len(ids), MOST_LEARNT))]
    named = kept.read({image_id: known[image_id] for image_id in learnt})
    is_yes = np.array([image_id in has for image_id in named.ids.tolist()], dtype=np.bool_)
    return Lesson(spelling, tag_ids[0] if tag_ids else new_id, not tag_ids, named, is_yes, said)


def _checked(tag: str) -> str:
    """Return a tag's name. Raises ``UsageError`` if it cannot be one."""
    name = " ".join(unicodedata.normalize("NFC", tag).split())
    if not name:
        raise UsageError("the tag has no name; give one")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"the name of the tag has {len(name)} characters; give one of at most {LONGEST_NAME}")
    if any(unicodedata.category(letter).startswith("C") or letter in _UNSEEN for letter in name) or '"' in name:
        raise UsageError(f"the name {name!a} has a quote or a character that cannot be typed or seen; give another")
    return name


def _is_plain(name: str) -> bool:
    """Return whether a query with this name has its words, and no filter, sign, number of a tag or operator."""
    try:
        found = list(tokens(name))
    except QuerySyntaxError:
        return False
    has_words = any(unicodedata.category(letter)[0] in "LN" or unicodedata.category(letter) == "So" for letter in name)
    return has_words and all(token.is_free or token.kind in {"open", "close"} for token in found)
