"""What a page of a search costs, the first one and the thousandth, and a page of tags.

    python -m benchmarks.bench_filtered build --folder /tmp/filtered --rows 200000 --only ramq
    python -m benchmarks.bench_pages --folder /tmp/filtered --rows 200000 --name 2-core

It asks what ``bench_filtered`` stored, ten hits a page, through ``Search`` as the web server does. Pages of one search
are asked for in turns. ``page 1,000, elsewhere`` is that page in a process that has not seen the others: its list is
not kept there, as after a restart, or behind a load balancer.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import psutil

from benchmarks.filtered_systems import ours
from benchmarks.report import begin, options, write
from benchmarks.search_data import Maker
from ram_core import load_text_encoder
from storage.index import kept_lists
from storage.remembered import read_only
from storage.results.spaces import TEXT
from storage.search import query as queries
from storage.search.compared import Compared
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.filtered_systems import Ours
    from storage.search.views import HitPage

LIMIT, MOST = 10, 500
PAGES = (1, 2, 100, 1_000)
ELSEWHERE = f"page {PAGES[-1]:,}, elsewhere"
SEARCHES = {
    "all": SearchQuery(),
    "a tag of 50 %": SearchQuery(tags=("tag 4",)),
    "a tag of 10 %": SearchQuery(tags=("tag 3",)),
    "text": SearchQuery(text="made up", relevance=0),
    "text, a tag of 50 %": SearchQuery(text="made up", relevance=0, tags=("tag 4",)),
    "text, a tag of 10 %": SearchQuery(text="made up", relevance=0, tags=("tag 3",)),
}


def measure(system: Ours, vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Ask for the pages of each search; return milliseconds."""
    found = {}
    for name, query in SEARCHES.items():
        taken: dict[str, list[float]] = {}
        for vector in vectors:
            for page, seconds in _pages(system, query, vector).items():
                taken.setdefault(page, []).append(seconds)
        found[name] = {page: figures(seconds[1:]) for page, seconds in taken.items()}
        print(name, {page: one["p50_ms"] for page, one in found[name].items()}, flush=True)
    return found


def _pages(system: Ours, query: SearchQuery, vector: NDArray[np.float32]) -> dict[str, float]:
    """Return how many seconds each page took."""
    compared = [Compared(TEXT, "text", vector)] if query.text else []

    def page(cursor: str | None, limit: int = LIMIT) -> HitPage:
        with read_only(system.engine) as session:
            return system.search.page(session, replace(query, limit=limit, cursor=cursor), compared)

    cursors: dict[int, str | None] = {1: None}
    cursor, place = None, 0
    with _without_content(system):
        for number in PAGES[1:]:
            while place < (number - 1) * LIMIT:
                step = min(MOST, (number - 1) * LIMIT - place)
                cursor = page(cursor, step).next_cursor
                assert cursor is not None, "too few images"
                place += step
            cursors[number] = cursor
    seconds: dict[str, float] = {}
    for number, at in cursors.items():
        seconds[f"page {number:,}"] = _timed(lambda at=at: page(at))  # type: ignore[misc]
    kept_lists.kept.cache_clear()
    seconds[ELSEWHERE] = _timed(lambda: page(cursors[PAGES[-1]]))
    return seconds


@contextmanager
def _without_content(system: Ours) -> Iterator[None]:
    """Read no content of hits, to come to a far page soon."""
    with patch.object(system.search, "hits", lambda _session, _match, _query, images: list(images)):
        yield


def tags(system: Ours) -> dict[str, Any]:
    """Ask for the first and the last page of tags, 50 each, of all images and of half of them."""
    found = {}
    for name in ("all", "a tag of 50 %"):
        query = SEARCHES[name]
        with read_only(system.engine) as session:
            every = system.search.facets(session, query, 10_000)
            after = every[-51].id, every[-51].count

            def first(session: Any = session, query: SearchQuery = query) -> None:
                system.search.facets(session, query, 51)

            def last(session: Any = session, query: SearchQuery = query, after: Any = after) -> None:
                system.search.facets(session, query, 51, (), after)

            taken = [(_timed(first), _timed(last)) for _ in range(20)]
        firsts, lasts = zip(*taken[1:], strict=True)
        found[name] = {"tags": len(every), "first": figures(list(firsts)), "last": figures(list(lasts))}
        print("tags of", name, found[name], flush=True)
    return found


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def figures(seconds: list[float]) -> dict[str, float]:
    """Return milliseconds."""
    middle, late = np.percentile(seconds, (50, 95))
    return {"p50_ms": round(1000 * float(middle), 2), "p95_ms": round(1000 * float(late), 2)}


def main() -> None:
    """Measure and write a file."""
    parser = options(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where bench_filtered keeps its data")
    parser.add_argument("--rows", type=int, default=200_000, help="images there")
    parser.add_argument("--queries", type=int, default=21, help="the first one is not counted")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
    with ours(chosen.folder / "ramq") as (system, _):
        found = measure(system, Maker(width).queries(chosen.queries))
        report |= {"rows": chosen.rows, "depth": queries.MAX_OFFSET, "pages": found, "tags": tags(system)}
    write(chosen, "pages", report)


if __name__ == "__main__":
    main()
