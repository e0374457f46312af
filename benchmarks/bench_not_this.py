"""How should "not this" turn a search for similar pictures?

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python tests/photographs.py
    python -m benchmarks.bench_not_this --stamps stamps/usr/share/tuxpaint/stamps

The pictures are those of ``bench_retrieval``, with vectors of ``lite``. Each picture in a folder of more than five is
searched with. A made-up person then says "not this" of the first hit that lies in another folder, up to three times, as
long as one of the first ten does. *precision* is the share of the first ten hits that lie in the same folder; a picture
that was said not to be meant is no hit. It is the mean over the pictures with a wrong hit among the first ten.

* ``left_out``: those pictures are left out, and nothing is learnt: the baseline;
* ``rocchio``: a share of the mean of their vectors is subtracted from that of the picture (Rocchio, 1971);
* ``sum``: a share of the sum of their vectors is;
* ``across``: as ``rocchio``, of what in the mean stands at a right angle to the picture's vector;
* ``nearest``: a share of the cosine with the nearest of them is subtracted from the cosine with the picture. Such an
  order has no vector of its own, so an index could only rank again what it found.

In ``fused``, the ranks of both spaces are joined by reciprocal rank fusion, as a search joins them. ``stamps`` and
``photographs`` are judged apart, so that a share that is best on the one can be tried on the other.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_retrieval import vectors_of
from benchmarks.labelled import by_text, photographs, stamps
from benchmarks.report import begin, options, write
from storage.search.fusion import K

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Way = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

FIRST = 10
CLICKS = 3
ALIKE = 5
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def ways() -> dict[str, Way]:
    """Return each way by its name: how it scores all pictures, from their cosines.

    They are those with the picture (N,), with those that are not meant (K, N), and between these and the picture (K,).
    A vector's length changes no order, so that of the result does not matter.
    """
    found: dict[str, Way] = {"left_out": lambda own, _others, _between: own}
    for share in SHARES:
        found |= {
            f"rocchio {share}": lambda own, others, _, share=share: own - share * others.mean(axis=0),
            f"sum {share}": lambda own, others, _, share=share: own - share * others.sum(axis=0),
            f"across {share}": lambda own, others, between, share=share: (
                own - share * (others.mean(axis=0) - between.mean() * own)
            ),
            f"nearest {share}": lambda own, others, _, share=share: own - share * others.max(axis=0),
        }
    return found


def judge(spaces: Sequence[NDArray[np.float32]], kinds: NDArray[Any], judged: Sequence[int], way: Way) -> list[float]:
    """Return the mean precision before, and after each "not this", and of how many pictures it is.

    Args:
        spaces: the cosines (N, N) of all pictures with each other, in each space that is compared.
        kinds: (N,) their folders.
        judged: the pictures to search with.
        way: one of ``ways``.
    """
    found = []
    for own in judged:
        said: list[int] = []
        shares: list[float] = []
        for _ in range(CLICKS + 1):
            order = first_hits(spaces, own, said, way)
            is_right = kinds[order] == kinds[own]
            shares.append(float(is_right.mean()))
            if is_right.all():
                break
            said.append(int(order[int(np.argmin(is_right))]))
        if said:
            found.append(shares + [shares[-1]] * (CLICKS + 1 - len(shares)))
    return [*np.mean(found, axis=0).round(4).tolist(), len(found)]


def first_hits(spaces: Sequence[NDArray[np.float32]], own: int, said: Sequence[int], way: Way) -> NDArray[np.int64]:
    """Return the numbers of the first hits, without the picture and those that are not meant."""
    away = [own, *said]
    orders = []
    for cosines in spaces:
        scores = way(cosines[own], cosines[list(said)], cosines[own, list(said)]) if said else cosines[own]
        scores = scores.copy()
        scores[away] = -np.inf
        orders.append(np.argsort(-scores, kind="stable"))
    if len(orders) == 1:
        return orders[0][:FIRST]
    total = np.zeros(len(orders[0]))
    for order in orders:
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        total += 1 / (K + ranks)
    total[away] = -np.inf
    return np.argsort(-total, kind="stable")[:FIRST]


def main() -> None:
    """Measure the sets that are there; write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    chosen = parser.parse_args()
    sets = {"stamps": by_text(stamps(chosen.stamps)), "photographs": by_text(photographs())}
    sets = {name: pictures for name, pictures in sets.items() if pictures.paths}
    paths = [path for pictures in sets.values() for path in pictures.paths]
    kinds = np.array([f"{name}/{kind}" for name, pictures in sets.items() for kind in pictures.folders])
    sizes = Counter(kinds.tolist())
    cosines = {}
    for space in ("text", "look"):
        vectors = vectors_of(paths, space).astype(np.float32)
        cosines[space] = vectors @ vectors.T
    compared = {"text": [cosines["text"]], "look": [cosines["look"]], "fused": [*cosines.values()]}
    report = begin(pictures={name: len(pictures.paths) for name, pictures in sets.items()}) | {"precision": {}}
    for name in sets:
        judged = [n for n, kind in enumerate(kinds.tolist()) if kind.startswith(f"{name}/") and sizes[kind] > ALIKE]
        report["precision"][name] = {
            space: {way: judge(spaces, kinds, judged, call) for way, call in ways().items()}
            for space, spaces in compared.items()
        }
        for space, judgements in report["precision"][name].items():
            print(name, space)
            for way, shares in sorted(judgements.items(), key=lambda pair: -pair[1][3]):
                print(f"  {way:12} {shares}")
    write(chosen, "not-this", report)


if __name__ == "__main__":
    main()
