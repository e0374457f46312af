"""Are the right pictures found, by text and by likeness, in each space of vectors and in several at once?

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python tests/photographs.py
    python -m benchmarks.bench_retrieval --stamps stamps/usr/share/tuxpaint/stamps

*stamps*: cut-out pictures with an English sentence each. *photographs*: animals, tools and monuments, named by their
files. A text that several pictures share has all of them as right answers. ``--coco`` and ``--flickr30k`` take the
folders of these data sets; ``--spaces`` takes towers whose weights ``ramq models pull`` installed.

``ramq up`` recognises the pictures, each set as an archive of its own, and answers over HTTP as it does for people:

*by text*: the share of the texts of which a right picture is among the first 1, 5 and 10, and the mean of 1 / rank of
the first one, without a floor of relevance. *relevance*: with the usual floor, the number of pictures that a text of
the set finds, and one that nothing answers, and how many of these texts find nothing.
*alike*: for each picture, the share of the five most similar ones that lie in the same folder, among both sets; only
folders of six count. *taught*: how well five pictures of a folder teach it: the mean average precision of the direction
from 50 other pictures to them; only folders of ten count.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_load import address_in
from benchmarks.labelled import (
    UNANSWERABLE,
    UNANSWERABLE_UNSEEN,
    Captioned,
    by_text,
    coco,
    flickr30k,
    opened,
    photographs,
    stamps,
)
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.spaces import load_image_encoder
from ramq.client import Client
from ramq.embedded.process import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

RANKS = (1, 5, 10)
MOST = 500
"""Pictures looked through for a right one; one that comes later counts as not found."""

SIMILAR = 5
OTHERS = 50
DRAWS = 10
BATCH = 32
LIMIT_SECONDS = 6 * 3_600.0


@contextmanager
def stack(folder: Path) -> Iterator[str]:
    """Run ``ramq up`` on an empty folder; give its address."""
    log = folder / "up.log"
    process = spawn(
        [sys.executable, "-m", "ramq.cli.main", "up", "--data", str(folder / "data"), "--port", "0"],
        cwd=Path(__file__).parents[1],
        log=log,
        stop_signal=signal.SIGTERM,
    )
    try:
        yield address_in(log, lambda: process.poll() is None)
    finally:
        process.terminate()
        process.wait(120)


class Bench:
    """Sets of pictures, each in an archive.

    Args:
        client: of the server.
        folder: for copies of the pictures.
        sets: by name.
        spaces: beside ``text``.
    """

    def __init__(self, client: Client, folder: Path, sets: dict[str, Captioned], spaces: Sequence[str]) -> None:
        self.client, self.sets, self.spaces = client, sets, spaces
        self.archives: dict[str, str] = {}
        self.ids: dict[str, dict[int, int]] = {}
        """Of each set: image ids -> numbers of pictures."""
        for name, pictures in sets.items():
            self._record(name, pictures, folder / name)

    def _record(self, name: str, pictures: Captioned, folder: Path) -> None:
        """Recognise the pictures of a set, as an archive."""
        folder.mkdir(parents=True)
        for number, path in enumerate(pictures.paths):
            shutil.copy(path, folder / f"{number:06}{path.suffix}")
        first = self.client.enqueue(str(folder), stages=self.spaces)
        jobs = [self.client.wait(first.id, timeout_seconds=LIMIT_SECONDS)]
        jobs += [
            self.client.wait(job.id, timeout_seconds=LIMIT_SECONDS)
            for job in list(self.client.jobs())
            if job.with_job == first.id
        ]
        wrong = [f"job {job.id} ({job.stage}) is {job.state}" for job in jobs if job.state != "done" or job.failed]
        if wrong:
            raise SystemExit(f"{name}: {', '.join(wrong)}")
        own = next(one.id for one in self.client.archives() if one.uri.rstrip("/") == folder.as_uri())
        self.archives[name] = str(own)
        self.ids[name] = {hit.image_id: int(Path(hit.key).stem) for hit in self.client.search(archive=str(own))}
        if len(self.ids[name]) != len(pictures.paths):
            raise SystemExit(f"{name}: {len(self.ids[name])} of {len(pictures.paths)} pictures were recognised")
        print(f"{name}: {len(pictures.paths)} pictures, {len(pictures.queries)} texts", flush=True)

    def by_text(self, name: str, space: str) -> dict[str, float]:
        """Judge the order of pictures for the texts of a set."""
        ranks = []
        for query, right in zip(self.sets[name].queries, self.sets[name].right, strict=True):
            numbers = self._found(name, query, space, relevance=0)
            ranks.append(next((place for place, number in enumerate(numbers, 1) if number in right), np.inf))
        found = np.array(ranks)
        shares = {f"r_at_{k}": round(float((found <= k).mean()), 4) for k in RANKS}
        return shares | {"mean_reciprocal_rank": round(float((1 / found).mean()), 4)}

    def relevance(self, name: str, space: str) -> dict[str, float]:
        """Count what texts find that have, and that have no, answer."""
        off_topic = (*UNANSWERABLE, *UNANSWERABLE_UNSEEN)
        on, off = (
            np.array([len(self._found(name, query, space)) for query in queries])
            for queries in (self.sets[name].queries, off_topic)
        )
        return {
            "hits": round(float(on.mean()), 1),
            "texts_without_any": int((on == 0).sum()),
            "off_topic_hits": round(float(off.mean()), 2),
            "off_topic_without_any": int((off == 0).sum()),
            "off_topic": len(off_topic),
        }

    def _found(self, name: str, query: str, space: str, **filters: Any) -> list[int]:
        """Return the pictures that a text finds, best first. It is asked as one phrase, never as tags or filters."""
        phrase = query.replace('"', " ")
        hits = self.client.search(f'text:"{phrase}"', archive=self.archives[name], space=space, **filters)
        return [self.ids[name][hit.image_id] for hit in islice(hits, MOST)]

    def alike(self, space: str) -> dict[str, float]:
        """Judge the neighbours of pictures by the folders in which they lie."""
        folders = {
            image_id: pictures.folders[number]
            for name, pictures in self.sets.items()
            if pictures.folders
            for image_id, number in self.ids[name].items()
        }
        sizes = Counter(folders.values())
        shares = []
        for image_id, kind in folders.items():
            if sizes[kind] <= SIMILAR:
                continue
            hits = [hit.image_id for hit in islice(self.client.search(like=image_id, space=space, limit=50), 50)]
            near = [folders[each] for each in hits if each in folders][:SIMILAR]
            shares.append(near.count(kind) / SIMILAR)
        return {"judged": len(shares), f"precision_at_{SIMILAR}": round(float(np.mean(shares)), 4)}


def taught(vectors: NDArray[np.float32], folders: Sequence[str]) -> float:
    """Judge how well five pictures of a folder teach it.

    Args:
        vectors: (N, D) of unit length.
        folders: of each picture.
    """
    kinds, random, precisions = np.array(folders), np.random.default_rng(0), []
    for kind in sorted(kind for kind, size in Counter(folders).items() if size >= 2 * SIMILAR):
        inside, outside = np.flatnonzero(kinds == kind), np.flatnonzero(kinds != kind)
        for _ in range(DRAWS):
            shown, others = random.choice(inside, SIMILAR, replace=False), random.choice(outside, OTHERS, replace=False)
            rest = np.setdiff1d(np.arange(len(kinds)), np.concatenate([shown, others]))
            order = np.argsort(-(vectors[rest] @ (vectors[shown].mean(axis=0) - vectors[others].mean(axis=0))))
            hits = kinds[rest][order] == kind
            precisions.append(float((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean()))
    return round(float(np.mean(precisions)), 4)


def vectors_of(paths: Sequence[Path], space: str) -> NDArray[np.float32]:
    """Return (N, D) what ``lite`` makes of pictures for a space."""
    model: Any = load_model("lite") if space == "text" else load_image_encoder("lite")
    parts = []
    for start in range(0, len(paths), BATCH):
        pixels = np.stack([opened(path, model.preprocessing) for path in paths[start : start + BATCH]])
        parts.append(
            np.stack([one.vector for one in model.predict(pixels)]) if space == "text" else model.encode(pixels)
        )
    return np.concatenate(parts)


def main() -> None:
    """Measure the sets that are there; write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    parser.add_argument("--coco", type=Path, help="folder with annotations/captions_val2017.json and val2017/")
    parser.add_argument("--flickr30k", type=Path, help="folder with flickr30k-images/ and its captions")
    parser.add_argument("--spaces", nargs="*", default=["look"], help="beside text")
    parser.add_argument("--texts", nargs="*", default=["text"], help="ranks by texts; commas fuse")
    parser.add_argument("--likes", nargs="*", default=["text", "look", "text,look"], help="ranks by likeness")
    chosen = parser.parse_args()
    sets = {"stamps": by_text(stamps(chosen.stamps)), "photographs": by_text(photographs())}
    if chosen.coco:
        sets["coco"] = coco(chosen.coco)
    if chosen.flickr30k:
        sets["flickr30k"] = flickr30k(chosen.flickr30k)
    sets = {name: pictures for name, pictures in sets.items() if pictures.paths}
    if not sets:
        parser.error("no labelled pictures: run `python tests/photographs.py`, or see --help for the stamps")
    report = begin(pictures={name: len(pictures.paths) for name, pictures in sets.items()})
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder)) as url, Client(url) as client:
        bench = Bench(client, Path(folder) / "pictures", sets, chosen.spaces)
        for name in sets:
            report[name] = {
                space: {"ranking": bench.by_text(name, space), "relevance": bench.relevance(name, space)}
                for space in chosen.texts
            }
            print(name, report[name], flush=True)
        report["alike"] = {space: bench.alike(space) for space in chosen.likes}
    with_folders = [pictures for pictures in sets.values() if pictures.folders]
    paths = [path for pictures in with_folders for path in pictures.paths]
    folders = [kind for pictures in with_folders for kind in pictures.folders]
    for space in ("text", "look"):
        report["alike"][space][f"taught_by_{SIMILAR}"] = taught(vectors_of(paths, space), folders)
    print("alike", report["alike"])
    write(chosen, "retrieval", report)


if __name__ == "__main__":
    main()
