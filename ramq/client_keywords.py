"""The part of the client that is about keywords that people give images."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ramq.client_duplicates import DuplicateCalls
from ramq.schemas.keywords import KeywordActOut, KeywordCountOut
from ramq.schemas.views import ImageOut, PageOut

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeywordCalls(DuplicateCalls):
    """Calls about keywords. Those that change many images send one request after the other until all are done."""

    def give_keywords(
        self,
        words: Sequence[str],
        images: Sequence[int] | None = None,
        text: str | None = None,
        *,
        with_tags: bool = False,
        **filters: str | float | None,
    ) -> KeywordActOut:
        """Give keywords to images: to those with these ids, or to all that a search finds.

        Args:
            words: the keywords.
            images: ids; None: those that the search finds.
            text: the search, in the query language.
            with_tags: also add the tags that have these names, as corrections.
            **filters: as of ``search``.
        """
        body = {"add": list(words), "with_tags": with_tags}
        return self._change(body, images, {"q": text, **filters})

    def remove_keywords(
        self,
        words: Sequence[str],
        images: Sequence[int] | None = None,
        text: str | None = None,
        **filters: str | float | None,
    ) -> KeywordActOut:
        """Remove keywords that people gave: see ``give_keywords``."""
        return self._change({"remove": list(words)}, images, {"q": text, **filters})

    def rename_keyword(self, old: str, new: str) -> KeywordActOut:
        """Give all images that have one keyword another one instead."""
        return self._ended(self._ask(KeywordActOut, "POST", "/v1/keywords/rename", json={"old": old, "new": new}))

    def keywords(self, beginning: str = "", *, limit: int = 100, cursor: str | None = None) -> PageOut[KeywordCountOut]:
        """Return the keywords that people gave, the most frequent first."""
        wanted = {"beginning": beginning, "limit": limit, "cursor": cursor}
        return self._ask(PageOut[KeywordCountOut], "GET", "/v1/keywords", wanted)

    def keyword_history(self, *, limit: int = 50, cursor: str | None = None) -> PageOut[KeywordActOut]:
        """Return who gave, removed and renamed keywords when, the newest first."""
        return self._ask(PageOut[KeywordActOut], "GET", "/v1/keywords/acts", {"limit": limit, "cursor": cursor})

    def keyword_act(self, act_id: int) -> KeywordActOut:
        """Return what was done to keywords at one time."""
        return self._ask(KeywordActOut, "GET", f"/v1/keywords/acts/{act_id}")

    def undo_keywords(self, act_id: int) -> KeywordActOut:
        """Undo what was done to keywords at one time."""
        return self._ended(self._ask(KeywordActOut, "POST", f"/v1/keywords/acts/{act_id}/undo"))

    def redo_keywords(self, act_id: int) -> KeywordActOut:
        """Do again what was undone."""
        return self._ended(self._ask(KeywordActOut, "POST", f"/v1/keywords/acts/{act_id}/redo"))

    def give_keyword(self, image_id: int, word: str) -> ImageOut:
        """Give one image a keyword."""
        return self._ask(ImageOut, "PUT", f"/v1/images/{image_id}/keywords/{quote(word, safe='')}")

    def remove_keyword(self, image_id: int, word: str) -> ImageOut:
        """Remove a keyword that a person gave an image."""
        return self._ask(ImageOut, "DELETE", f"/v1/images/{image_id}/keywords/{quote(word, safe='')}")

    def _change(
        self, body: dict[str, object], images: Sequence[int] | None, search: dict[str, str | float | None]
    ) -> KeywordActOut:
        named = {} if images is None else {"images": list(images)}
        return self._ended(self._ask(KeywordActOut, "POST", "/v1/keywords/acts", search, json={**body, **named}))

    def _ended(self, act: KeywordActOut) -> KeywordActOut:
        while act.state in {"unfinished", "undoing"}:
            act = self._ask(KeywordActOut, "POST", f"/v1/keywords/acts/{act.id}/continue")
        return act
