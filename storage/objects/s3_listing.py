"""List a bucket: in parallel from key to key, or with continuation tokens if a server requires that.

A listing must resume after a restart, when a token is lost. Therefore pages begin after a key. Some servers return that
key again, some ignore it, some reject it. The first kind is handled by dropping the key. The others are detected and
listed with tokens from the beginning, without the keys that were listed before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.objects.base import MAX_KEY_BYTES, TOO_LONG_VERSION, ObjectInfo, SourceError, shortened
from storage.objects.cutting import LAST, DisorderedError, cut_between
from storage.objects.parallel_listing import KeyPage, is_ascending, list_in_parallel
from storage.texts import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BAD_NAME = "!bad-name"
"""Version of a listed key that cannot be stored. ``fetch`` raises an error with the reason."""


class _StartKeyError(Exception):
    """The server ignores or rejects the key to begin after."""


class BucketLister:
    """Lists the keys below one folder of a bucket.

    Args:
        ask: makes one ListObjectsV2 request with these parameters; raises errors about the whole bucket.
    """

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._takes_start_key = True
        self._is_ordered = True

    def pages(self, prefix: str, start: str, size: int, until: str | None = None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of ``size`` keys below ``prefix`` (ending in ``/``, or empty), after the key ``start``.

        With ``until`` up to where a listing that begins after that key goes on.

        Raises:
            SourceError: the listing goes in circles. Also errors of ``ask``.
        """
        given = start
        if self._takes_start_key:
            try:
                for page in list_in_parallel(
                    _FolderLister(self._ask_in_order, prefix, size), prefix, start, size, until
                ):
                    given = page[-1].key
                    yield page
            except _StartKeyError:
                self._takes_start_key = False
            else:
                return
        yield from self._with_tokens(prefix, given, size, until)

    def cut(self, prefix: str, after: str, until: str | None) -> str | None:
        """Return where to cut the listing of the keys after ``after`` in two; None: it cannot be cut."""
        if not self._takes_start_key or not self._is_ordered:
            return None

        def first_after(key: str) -> str | None:
            found = self._ask_in_order(Prefix=prefix, MaxKeys=2, StartAfter=key).get("Contents", [])
            keys = [item["Key"] for item in found if item["Key"] != key]  # some servers include the key itself
            return keys[0] if keys else None

        cut = None
        try:
            cut = cut_between(first_after, prefix, after, until)
        except DisorderedError:
            self._is_ordered = False
        return cut if self._is_ordered else None

    def _ask_in_order(self, **options: Any) -> Any:
        """Make a request, and note if the answer does not have the order of bytes."""
        answer = self._ask(**options)
        for name, key in (("Contents", "Key"), ("CommonPrefixes", "Prefix")):
            self._is_ordered &= is_ascending([item[key] for item in answer.get(name, [])])
        return answer

    def _with_tokens(self, prefix: str, after: str, size: int, until: str | None) -> Iterator[list[ObjectInfo]]:
        """Yield pages in the server's order, from the beginning, of the keys after ``after`` and up to ``until``.

        Where a server has an order of its own, keys after another one are those that come later, not greater ones. A
        page is empty as long as that key did not come.

        Raises:
            SourceError: the key is gone, and the server has no order that tells where it was.
        """
        has_come, is_ordered, last = not after.startswith(prefix or after[:1]), True, ""
        ends = {after, after.removesuffix(LAST)}
        is_by_place = not has_come
        for found in self._from_the_beginning(prefix, size):
            fresh = found if has_come else []
            if not has_come:
                keys = [info.key for info in found]
                is_ordered, last = is_ordered and is_ascending([last, *keys]), (keys or [last])[-1]
                place = next((number for number, key in enumerate(keys, 1) if key in ends), 0)
                has_come, fresh = bool(place), found[place:] if place else []
            yield [info for info in fresh if (is_by_place or info.key > after) and (until is None or info.key <= until)]
        if has_come:
            return
        if not is_ordered:
            raise SourceError(
                f"{visible(after)!r}, after which this listing goes on, is gone, and the store has no order that tells "
                "what came after it: enqueue the archive again"
            )
        for found in self._from_the_beginning(prefix, size):
            yield [info for info in found if info.key > after and (until is None or info.key <= until)]

    def _from_the_beginning(self, prefix: str, size: int) -> Iterator[list[ObjectInfo]]:
        token: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            answer = self._ask(Prefix=prefix, MaxKeys=size, **token)
            yield [info_of(item) for item in answer.get("Contents", [])]
            if not answer.get("IsTruncated"):
                return
            following = answer.get("NextContinuationToken", "")
            if not following or following in seen:
                raise SourceError("the store lists in circles: it neither begins after a key nor returns a new token")
            seen.add(following)
            token = {"ContinuationToken": following}


class _FolderLister:
    """The requests of ``list_in_parallel``. Several threads call it."""

    def __init__(self, ask: Callable[..., Any], prefix: str, page_size: int) -> None:
        self._ask = ask
        self._prefix = prefix
        self._page_size = page_size
        self._first: str | None = None

    def page(self, after: str) -> KeyPage:
        try:
            answer = self._ask(Prefix=self._prefix, MaxKeys=self._page_size, **({"StartAfter": after} if after else {}))
        except SourceError as error:
            if after:
                raise _StartKeyError from error
            raise
        contents = answer.get("Contents", [])
        is_last = not contents or not answer.get("IsTruncated")
        # Some servers include the key itself.
        contents = [item for item in contents if item["Key"] != after]
        keys = [item["Key"] for item in contents]
        if self._first is None:
            self._first = self._very_first(keys, after)
        if after and keys and keys[0] == self._first:  # the listing starts over
            raise _StartKeyError
        if not keys and not is_last:
            raise _StartKeyError
        return KeyPage(keys, [info_of(item) for item in contents], is_last)

    def _very_first(self, keys: list[str], after: str) -> str:
        """Return the first key of the whole listing, if the first page after a key could be its beginning."""
        if not after or not keys:
            return keys[0] if keys else ""
        if keys[0] > after:
            return ""
        return next((item["Key"] for item in self._ask(Prefix=self._prefix, MaxKeys=1).get("Contents", [])), "")

    def folders(self, above: str, after: str) -> list[str]:
        answer = self._ask(Prefix=above, StartAfter=after, Delimiter="/", MaxKeys=self._page_size)
        return [item["Prefix"] for item in answer.get("CommonPrefixes", [])]


def info_of(item: Any) -> ObjectInfo:
    """Return the properties of one listed key."""
    if "\x00" in item["Key"]:  # PostgreSQL cannot store it
        return ObjectInfo(item["Key"].replace("\x00", r"\x00"), BAD_NAME, item["Size"], item["LastModified"])
    if len(item["Key"].encode()) > MAX_KEY_BYTES:  # S3 itself allows 1,024 bytes
        return ObjectInfo(shortened(item["Key"]), TOO_LONG_VERSION, item["Size"], item.get("LastModified"))
    modified_at = item.get("LastModified")
    return ObjectInfo(
        key=item["Key"],
        version=version_of(item.get("ETag"), item["Size"], modified_at),
        size_bytes=item["Size"],
        modified_at=modified_at,
        is_marker=item["Key"].endswith("/") and item["Size"] == 0,
    )


def version_of(etag: str | None, size_bytes: int, modified_at: Any) -> str:
    """Return a version that changes with the object: its ETag, weak or not, or size and time if it has none."""
    if etag:
        return etag.removeprefix("W/").strip('"')
    return f"{size_bytes}-{modified_at.timestamp():.0f}" if modified_at else ""
