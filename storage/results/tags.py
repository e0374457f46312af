"""Tags of a vocabulary: find them by name in either language or by id, and suggest similar names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from sqlalchemy import select

from storage.errors import UsageError
from storage.results.naming import OtherNames, alternatives
from storage.results.tag_names import TagNames, spread
from storage.tables import SCORE_SCALE, Tag
from storage.texts import fold, id_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.naming import Hierarchy, Kinds

Name = TypeVar("Name", str, str | None)

_SHOWN = 100
_OWN_TAGS = "To use your own tags, add a vocabulary: `ramq vocab add`."
_SHORTEST_NEAR = 3
"""Minimum Latin letters of a name that is compared with others: "a" is similar to every short name."""
_LONGEST_NEAR = 60
"""Maximum letters of a name that is compared with all names of a vocabulary, which takes 10 ms and more."""


class UnknownTagError(UsageError):
    """The vocabulary does not have this tag.

    Args:
        name: as it was typed.
        near: similar names of tags, most similar first.
        hint: what else to do.
        elsewhere: which results have it that are not in use.
    """

    code = "unknown-tag"

    def __init__(self, name: str, near: Sequence[str], hint: str = "", elsewhere: str = "") -> None:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        self.near = tuple(near)
        self._reason = f'Unknown tag "{shown}". {elsewhere}'.rstrip()
        meant = f"Did you mean {', '.join(near)}?" if near else ""
        super().__init__(" ".join(filter(None, (self._reason, meant, hint))))

    @property
    def reason(self) -> str:
        """The error without suggestions."""
        return self._reason


@dataclass(frozen=True)
class Names:
    """A vocabulary in memory: names, thresholds and synonyms by tag id.

    Only synonyms may change, and the ``edition`` of the vocabulary with them. ``synonyms`` is empty without any.
    ``hierarchy`` knows which tags are kinds of others; None: no tag is.
    """

    vocabulary_id: int
    names: tuple[str, ...]
    names_zh: tuple[str | None, ...]
    thresholds: tuple[float, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()
    hierarchy: Hierarchy | None = field(default=None, compare=False)

    def units(self, tag_id: int, threshold: float | None) -> int:
        """Return the threshold of a tag in stored units: its own, or ``threshold`` (0..1) for all."""
        return self._own_units[tag_id] if threshold is None else round(threshold * SCORE_SCALE)

    def all_units(self, threshold: float | None) -> NDArray[np.int32]:
        """Return ``units`` of every tag, (T,). It must not be changed."""
        if threshold is not None:
            return np.full(len(self.names), round(threshold * SCORE_SCALE), dtype=np.int32)
        return self._all_own_units

    def find(self, text: str) -> tuple[int, ...]:
        """Return the ids of the tags that ``text`` names: in English in any case, in Chinese, or as an id.

        If several tags share a name, all of them are returned. If no name is spelled exactly like this, the names are
        compared without regard to case, width, white space and composition of letters. If no tag has this name, those
        are meant that have it as an alternative ("cat" of "cat/kitty") or as a synonym.

        Raises:
            UnknownTagError: it names no tag.
        """
        ids = self.ids(text)
        if not ids:
            near = self.near(text.strip())
            raise UnknownTagError(text, near, "" if near else _OWN_TAGS)
        return ids

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the result of ``find``; nothing for an unknown name."""
        named = self._named(text)
        if not named and (tag_id := id_in(text.strip(), below=len(self.names))) is not None:
            return (tag_id,)
        return named

    def meant(self, text: str) -> tuple[int, ...]:
        """Return the ids of the tags that a search for ``text`` looks for: those that it names, and kinds of these.

        A name that no tag has may be that of something more general: "dog" means the poodles of a vocabulary of breeds.
        An id means this tag alone. The tags that ``text`` names come first.

        Raises:
            UnknownTagError: it names no tag, and nothing that is more general than one.
        """
        named = self._named(text)
        return self.with_kinds(named) or self.general(text) or self.find(text)

    def with_kinds(self, tag_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return these tags, and then the kinds of them."""
        return tuple(dict.fromkeys((*tag_ids, *(kind for tag_id in tag_ids for kind in self.kinds_of(tag_id)))))

    def general(self, text: str) -> tuple[int, ...]:
        """Return the ids of the tags that are kinds of what ``text`` names, if it names no tag itself."""
        return () if self._kinds is None or self.ids(text) else self._kinds.named(text)

    def kinds_of(self, tag_id: int) -> tuple[int, ...]:
        """Return the ids of the tags that are kinds of a tag, however many steps away."""
        return () if self._kinds is None else self._kinds.below(tag_id)

    @cached_property
    def _kinds(self) -> Kinds | None:
        if self.hierarchy is None:
            return None
        return self.hierarchy.over([(name, *alternatives(name)) for name in self.names])

    @cached_property
    def above(self) -> Mapping[int, frozenset[int]]:
        """For each tag that has any the ids of the tags that it is a kind of."""
        found: dict[int, set[int]] = {}
        for tag_id in range(len(self.names)):
            for kind in self.kinds_of(tag_id):
                found.setdefault(kind, set()).add(tag_id)
        return {tag_id: frozenset(general) for tag_id, general in found.items()}

    def _named(self, text: str) -> tuple[int, ...]:
        wanted = text.strip()
        ids = {*self._by_name.get(wanted.lower(), ()), *self._by_name_zh.get(wanted, ())}
        if not ids:
            folded = fold(text)
            known = self._by_folded_name if folded in self._by_folded_name else self.others.by_folded
            ids = {place for place, _ in known.get(folded, ())}
        return tuple(sorted(ids))

    def near(self, text: str, n: int = 5) -> list[str]:
        """Return tag names, English or Chinese, that are similar to ``text``, most similar first.

        Returns none for a long text, and none for one or two letters.
        """
        wanted = fold(text)
        if len(text) > _LONGEST_NEAR or (wanted.isascii() and len(wanted) < _SHORTEST_NEAR):
            return []
        known = {**self.others.by_folded, **self._by_folded_name}
        near = difflib.get_close_matches(wanted, known, n=n, cutoff=0.6)
        holding = sorted((name for name in known if wanted and wanted in name), key=len)
        return [known[name][0][1] for name in dict.fromkeys([*near, *holding])][:n]

    def examples(self, preferred: Sequence[str]) -> list[str]:
        """Return as many names of tags as ``preferred`` has: those in it that are tags, then others."""
        known = [name for name in preferred if self.ids(name)]
        others = (self.names[place] for place in spread(len(self.names), 2 * len(preferred)))
        return list(dict.fromkeys([*known, *others, *preferred]))[: len(preferred)]

    @cached_property
    def in_texts(self) -> TagNames:
        """The finder of tag names in texts."""
        return TagNames(self.names, self.names_zh, self.synonyms)

    @cached_property
    def others(self) -> OtherNames:
        """Alternatives and synonyms."""
        return OtherNames(self.names, self.names_zh, self.synonyms)

    @cached_property
    def _own_units(self) -> list[int]:
        return [round(threshold * SCORE_SCALE) for threshold in self.thresholds]

    @cached_property
    def _all_own_units(self) -> NDArray[np.int32]:
        units = np.array(self._own_units, dtype=np.int32)
        units.flags.writeable = False
        return units

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return _places(name.lower() for name in self.names)

    @cached_property
    def _by_name_zh(self) -> dict[str | None, list[int]]:
        return _places(self.names_zh)

    @cached_property
    def _by_folded_name(self) -> dict[str, list[tuple[int, str]]]:
        """Ids and spellings of the tags by their names in either language, as ``fold`` writes them."""
        found: dict[str, list[tuple[int, str]]] = {}
        for names in (self.names, self.names_zh):
            for tag_id, name in enumerate(names):
                if name:
                    found.setdefault(fold(name), []).append((tag_id, name))
        return found


def _places(names: Iterable[Name]) -> dict[Name, list[int]]:
    places: dict[Name, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return places


def load(session: Session, vocabulary_id: int, hierarchy: Hierarchy | None = None) -> Names:
    """Read a vocabulary. ``hierarchy`` knows which tags are kinds of others."""
    rows = session.execute(
        select(Tag.name, Tag.name_zh, Tag.threshold, Tag.synonyms)
        .where(Tag.vocabulary_id == vocabulary_id)
        .order_by(Tag.id)
    ).all()
    synonyms = tuple(tuple(row.synonyms or ()) for row in rows)
    return Names(
        vocabulary_id,
        tuple(row.name for row in rows),
        tuple(row.name_zh for row in rows),
        tuple(row.threshold for row in rows),
        synonyms if any(synonyms) else (),
        hierarchy,
    )
