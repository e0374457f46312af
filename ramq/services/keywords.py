"""Keywords that people give images: give them, remove them, rename them, and undo each of these acts as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ramq.services.author import LOCAL
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.page import Page
from storage.remembered import read_only
from storage.results import generations, keyword_acts, keywords, lookup, metadata_search
from storage.results.keyword_acts import IMAGES_AT_ONCE, ActSpec
from storage.texts import fold, fold_seen, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.search import SearchClient
    from storage.results.keyword_acts import ActView
    from storage.results.keywords import KeywordCount
    from storage.results.tags import Names
    from storage.search.search import Search
    from storage.search.views import SearchQuery

MAX_NAMED = 10_000
"""Images that an act can name one by one. A search can choose any number."""

STEP_SECONDS = 2.0
"""How long a request works on an act before it answers. The next request goes on."""


class TagNamed(NamedTuple):
    """A keyword that also is the name of a tag, or a synonym of it; ``tag`` is the tag's own name."""

    word: str
    tag: str


def in_files_told(count: int, words: Sequence[str]) -> str:
    """Return in a sentence that so many images have these keywords in their files; nothing if there are none."""
    if not count:
        return ""
    named = " or ".join(repr(word) for word in words)
    has = "has" if count == 1 else "have"
    return (
        f"{plural(count, 'image')} {has} the keyword {named} in the file, where it stays: ramq does not change files. "
        "Remove it with the program that wrote it, and the next job reads it anew."
    )


class KeywordClient:
    """Keywords. Thread-safe. Every part of an act is one transaction.

    Args:
        engine: the database.
        search: loads the vocabularies.
        found: finds the images that a search chooses.
    """

    def __init__(self, engine: Engine, search: Search, found: Callable[[], SearchClient]) -> None:
        self._engine = engine
        self._search = search
        self._found = found

    def begin(
        self,
        image_ids: Sequence[int],
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        with_tags: bool = False,
        by: str = LOCAL,
    ) -> ActView:
        """Plan an act for some images. ``go_on`` does it.

        Args:
            image_ids: at most ``MAX_NAMED``.
            add: keywords to give.
            remove: keywords to remove.
            with_tags: also add the tags that added keywords name (``tags_named``), as corrections.
            by: who does it.

        Raises:
            NotFoundError: one of the images does not exist.
            UsageError: a keyword cannot be one, or nothing is to be done.
        """
        return self._begin(self._spec(add, remove, by, with_tags=with_tags), self._existing(image_ids))

    def begin_for_all(
        self,
        query: SearchQuery,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        asked: str = "",
        with_tags: bool = False,
        by: str = LOCAL,
    ) -> ActView:
        """Plan an act for all images that a search finds now, however many. ``asked``: the search, for the history.

        Raises:
            UsageError: as ``begin``; or the search finds no image.
        """
        spec = self._spec(add, remove, by, with_tags=with_tags, query=asked)
        return self._begin(spec, self._found().id_batches(query, IMAGES_AT_ONCE))

    def _spec(
        self, add: Sequence[str], remove: Sequence[str], by: str, *, with_tags: bool, query: str | None = None
    ) -> ActSpec:
        added, removed = keywords.checked(add), keywords.checked(remove)
        if not added and not removed:
            raise UsageError("no keyword is given: name at least one")
        if both := {fold_seen(word) for word in added} & {fold_seen(word) for word in removed}:
            raise UsageError(f"the keyword {min(both)!r} is both to be given and to be removed; choose one")
        tags: dict[str, str] = dict(self.tags_named(added)) if with_tags else {}
        return ActSpec(added, removed, by, tags=[tags.get(word, "") for word in added] if tags else [], query=query)

    def begin_rename(self, old: str, new: str, by: str = LOCAL) -> ActView:
        """Plan to give all images that have one keyword another one instead. Raises ``UsageError``."""
        (old,), (new,) = keywords.checked([old]), keywords.checked([new])
        removed = [] if fold_seen(old) == fold_seen(new) else [old]
        return self._begin(ActSpec([new], removed, by, if_any=[old]), self._holding([old]))

    def begin_removal(self, words: Sequence[str], by: str = LOCAL) -> ActView:
        """Plan to remove keywords from all images that have them. Raises ``UsageError``."""
        removed = keywords.checked(words)
        if not removed:
            raise UsageError("no keyword is given: name at least one")
        return self._begin(ActSpec([], removed, by, if_any=removed), self._holding(removed))

    def _begin(self, spec: ActSpec, parts: Iterable[Sequence[int]]) -> ActView:
        with unit_of_work(self._engine) as session:
            act = keyword_acts.view(session, keyword_acts.begin(session, spec, parts))
            if not act.images:
                if spec.if_any is not None:
                    told = in_files_told(self.in_files(spec.if_any), spec.if_any)
                    raise NotFoundError(
                        f"no image has the keyword {spec.if_any[0]!r} from a person; `ramq keyword list` lists those "
                        f"that people gave{'. ' if told else ''}{told.rstrip('.')}"
                    )
                raise UsageError("the search finds no image, so nothing was changed")
        return act

    def _existing(self, image_ids: Sequence[int]) -> Iterator[Sequence[int]]:
        ids = sorted(set(image_ids))
        if not ids:
            raise UsageError("no image is named: name at least one, or a search")
        if len(ids) > MAX_NAMED:
            raise UsageError(f"at most {MAX_NAMED:,} images can be named at once; use a search for more")
        with read_only(self._engine) as session:
            lookup.resolve_all(session, [str(image_id) for image_id in ids], None)
        return (ids[start : start + IMAGES_AT_ONCE] for start in range(0, len(ids), IMAGES_AT_ONCE))

    def _holding(self, words: Sequence[str]) -> Iterator[Sequence[int]]:
        after = 0
        while True:
            with read_only(self._engine) as session:
                ids = keywords.holding(session, words, after, IMAGES_AT_ONCE)
            if not ids:
                return
            yield ids
            after = ids[-1]

    def go_on(
        self, act_id: int, *, seconds: float | None = None, progress: Callable[[ActView], None] | None = None
    ) -> ActView:
        """Do an act, or undo one whose undoing has begun, and return it as it is then.

        If it is interrupted, whole parts are done. The same call does the rest.

        Args:
            act_id: the act.
            seconds: stop after the part that ends after so long; None: not before all is done.
            progress: is told after each part.

        Raises:
            NotFoundError: there is no such act.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            with unit_of_work(self._engine) as session:
                is_left = keyword_acts.go_on(session, act_id)
                act = keyword_acts.view(session, act_id)
            if progress is not None:
                progress(act)
            if not is_left or (until is not None and time.monotonic() > until):
                return act

    def begin_undo(self, act_id: int, by: str = LOCAL) -> ActView:
        """Begin to undo an act: ``go_on`` does it. Each image then has what it would have without the act.

        Raises:
            NotFoundError: there is no such act.
            UsageError: it is undone already.
        """
        with unit_of_work(self._engine) as session:
            if not keyword_acts.begin_undo(session, act_id, by):
                act = keyword_acts.view(session, act_id)
                if act.state == "undone":
                    raise UsageError(
                        f"{act.undone_by} has undone the change {act_id} already; "
                        f"`ramq keyword redo {act_id}` does it again"
                    )
            return keyword_acts.view(session, act_id)

    def begin_redo(self, act_id: int, by: str = LOCAL) -> ActView:
        """Begin to do again what was undone: ``go_on`` does it. Each image then has what it would have without that.

        Raises:
            NotFoundError: there is no such act.
            UsageError: it is not undone.
            ConflictError: an earlier version undid it, and kept no list of its images.
        """
        with unit_of_work(self._engine) as session:
            if not keyword_acts.begin_redo(session, act_id, by):
                raise UsageError(f"the change {act_id} is not undone, so there is nothing to redo")
            return keyword_acts.view(session, act_id)

    def give_up(self, act_id: int) -> None:
        """Forget an act that has done nothing, such as one that a person did not confirm."""
        with unit_of_work(self._engine) as session:
            keyword_acts.forget(session, act_id)

    def act(self, act_id: int) -> ActView:
        """Return an act. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return keyword_acts.view(session, act_id)

    def history(self, *, limit: int = 50, before: int | None = None) -> Page[ActView]:
        """Return acts, the newest first. ``before``: ``next_cursor`` of the page before."""
        with unit_of_work(self._engine) as session:
            found = keyword_acts.views(session, limit + 1, before)
        return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)

    def words(self, image_ids: Sequence[int]) -> dict[int, list[str]]:
        """Return the words that people gave images, by id. Images without any are left out."""
        with read_only(self._engine) as session:
            return keywords.words_of(session, image_ids)

    def images(self, word: str) -> list[int]:
        """Return the ids of all images that people gave a keyword. Raises ``NotFoundError`` if there are none."""
        ids = [image_id for part in self._holding(keywords.checked([word])) for image_id in part]
        if not ids:
            raise NotFoundError(f"no image has the keyword {word!r} from a person; `ramq keyword list` lists them")
        return ids

    def in_files(self, words: Sequence[str], parts: Iterable[Sequence[int]] | None = None) -> int:
        """Return how many images have one of some words as a keyword in their files, where no act removes it.

        ``parts``: count only these images, which are given some at a time; None: all.
        """
        with read_only(self._engine) as session:
            # Files that an earlier version read have the characters that nobody sees in what is compared.
            folds = {folded for word in keywords.checked(words) for folded in (fold_seen(word), fold(word))}
            having = metadata_search.in_files(session, sorted(folds))
        if parts is None or not len(having):
            return len(having)
        return sum(int(np.isin(list(ids), having, assume_unique=True).sum()) for ids in parts)

    def tags_named(self, words: Sequence[str]) -> list[TagNamed]:
        """Return those of some words that are names or synonyms of tags of the vocabulary in use."""
        with read_only(self._engine) as session:
            names = self._names(session)
            if names is None:
                return []
            found = [(word, names.ids(word)) for word in words if not word.isdecimal()]
            return [TagNamed(word, names.names[ids[0]]) for word, ids in found if len(ids) == 1]

    def _names(self, session: Session) -> Names | None:
        serving = generations.default(session)
        return None if serving is None else self._search.vocabulary(session, serving.vocabulary_id)

    def list(self, beginning: str = "", *, limit: int = 100, offset: int = 0) -> Page[KeywordCount]:
        """Return the keywords that people gave and on how many images they are, the most frequent first.

        Args:
            beginning: only those that begin so, in any case.
            limit: at most so many.
            offset: ``next_cursor`` of the page before.
        """
        with read_only(self._engine) as session:
            found = keywords.counts(session, beginning.replace("\0", " "), limit + 1, offset)
        return Page(found[:limit], str(offset + limit) if len(found) > limit else None)
