"""What does it cost that a search for "animal" also looks for its kinds? Against the same tags joined by OR.

    python -m benchmarks.bench_kinds --rows 1000000 --tags FILE

``--tags`` is a list of names, such as RAM's ``ram_tag_list.txt``. The images are made up and in memory, as one part of
the index: what is measured is a page of ``storage.search`` without the transaction that loads the contents of its hits.
``or`` is the query as somebody would have to write it, where that is longer than a query may be too. ``alone`` is the
tag without its kinds.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import begin, options, write
from ram_core.hierarchy.wordnet import shipped_hierarchy
from storage.index.columns import columns
from storage.index.condition import Any as AnyOf
from storage.index.evaluate import best_by_tags, matching
from storage.results.policy import Policy
from storage.results.projection import RawRows
from storage.results.tags import Names
from storage.search.having import having
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.index.condition import Condition
    from storage.index.rows import Rows

ASKED = ("animal", "mammal", "vehicle", "food", "clothing", "dog", "furniture", "bird", "fruit", "car")
TAGS_PER_IMAGE = 12
LIMIT = 20
ROUNDS = 15


def made_up(count: int, names: Names) -> Rows:
    """Return rows with tags that are as frequent as 1, 1/2, 1/3, … in a random order of the tags."""
    random = np.random.default_rng(3)
    tags_there_are = len(names.names)
    weights = 1 / np.arange(1, tags_there_are + 1)
    chosen = random.permutation(tags_there_are)[
        random.choice(tags_there_are, size=(count, TAGS_PER_IMAGE), p=weights / weights.sum())
    ]
    chosen.sort(axis=1)
    is_first = np.ones(chosen.shape, dtype=np.bool_)
    is_first[:, 1:] = chosen[:, 1:] != chosen[:, :-1]
    lengths = is_first.sum(axis=1)
    tags = chosen[is_first].astype(np.int16)
    raw = RawRows(
        ids=np.arange(1, count + 1),
        archives=np.ones(count, dtype=np.int32),
        jobs=np.ones(count, dtype=np.int64),
        modified=np.zeros(count, dtype=np.int64),
        sizes=np.ones(count, dtype=np.int64),
        key_offsets=np.arange(count + 1, dtype=np.int64),
        key_bytes=np.full(count, ord("k"), dtype=np.uint8),
        tag_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        tags=tags,
        scores=random.integers(SCORE_SCALE // 100, SCORE_SCALE, len(tags)).astype(np.int16),
    )
    return columns(raw, names.all_units(None))


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the median of some rounds, in milliseconds of processor time: other programs may use the machine."""
    call()
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        call()
        taken.append(1000 * (time.process_time() - begun))
    return round(statistics.median(taken), 2)


def run(rows: Rows, names: Names) -> dict[str, Any]:
    """Measure each tag that the vocabulary has."""
    units = names.all_units(None).tolist()

    def page(condition: Condition, term: tuple[int, ...]) -> Any:
        return best_by_tags(rows, matching(rows, condition), (term,), LIMIT)

    def has(tag_ids: tuple[int, ...]) -> Condition:
        return having(Policy(), ((tag_id, units[tag_id]) for tag_id in tag_ids))

    report = {}
    for name in ASKED:
        if not names.ids(name):
            continue
        meant = names.meant(name)
        joined = AnyOf(tuple(has((tag_id,)) for tag_id in meant))
        report[name] = {
            "tags": len(meant),
            "images": len(matching(rows, has(meant))),
            "with_kinds_ms": milliseconds(lambda name=name, meant=meant: page(has(names.meant(name)), meant)),
            "or_ms": milliseconds(lambda joined=joined, meant=meant: page(joined, meant)),
            "alone_ms": milliseconds(lambda meant=meant: page(has(meant[:1]), meant[:1])),
            "names_ms": milliseconds(lambda name=name: names.meant(name)),
        }
        print(name, report[name])
    return report


def main() -> None:
    """Measure; write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tags", type=Path, required=True)
    chosen = parser.parse_args()
    listed = tuple(line.strip() for line in chosen.tags.read_text(encoding="utf-8").splitlines())
    count = len(listed)
    names = Names(1, listed, (None,) * count, (0.5,) * count, (), shipped_hierarchy())
    write(chosen, "kinds", begin(rows=chosen.rows, tags=count) | {"page": run(made_up(chosen.rows, names), names)})


if __name__ == "__main__":
    main()
