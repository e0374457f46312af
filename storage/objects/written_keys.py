"""Keys as a store writes them, for keys that people typed: letters may be composed (NFC) or decomposed (NFD)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from storage.objects.base import LOOKS_AT_ONCE, MISSING_VERSION
from storage.texts import other_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from storage.objects.base import ObjectInfo, ObjectStore


def as_written(
    store: ObjectStore, page: list[ObjectInfo], known: Callable[[list[str]], Collection[str]]
) -> list[ObjectInfo]:
    """Return the entries of a list of keys, those that do not exist in another form of their letters if that does.

    Only a key that has another form, is not known and whose object was not looked up costs a request.

    Args:
        store: where the keys are.
        page: the entries.
        known: returns those of some keys that were seen before as they are written.

    Raises:
        StoreUnavailableError, CredentialsError: as ``ObjectStore.stat``.
    """
    doubtful = [info for info in page if info.version in {"", MISSING_VERSION} and other_forms(info.key)]
    if doubtful:
        seen = known([info.key for info in doubtful])
        doubtful = [info for info in doubtful if info.key not in seen]
    if not doubtful:
        return page
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        found = dict(zip((info.key for info in doubtful), pool.map(partial(_written, store), doubtful), strict=True))
    return [found.get(info.key, info) for info in page]


def _written(store: ObjectStore, info: ObjectInfo) -> ObjectInfo:
    if not info.version:
        here = store.stat(info.key)
        if here.version != MISSING_VERSION:
            return info if here.version.startswith("!") else here
    there = [each for form in other_forms(info.key) if not (each := store.stat(form)).version.startswith("!")]
    return there[0] if len(there) == 1 else info
