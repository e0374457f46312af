"""How well do a few pictures teach a tag, is the precision the one that was asked for, and how long does it take?

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python tests/photographs.py
    python -m benchmarks.bench_teach --stamps stamps/usr/share/tuxpaint/stamps

Pictures lie in folders by kind, as in ``bench_retrieval``. ``lite`` recognises them in an archive of its own.

*features*: the mean average precision over all other pictures of a plain regression on 5 and 20 pictures of a kind and
50 others, by what it is fitted on: the 1,280 pooled features, how the picture looks (560), both as they are kept, both
in 32 bits, the vector of recognition. *alike*: the share of the five nearest pictures in the same folder, by these.
*teach*: ``ram_core.teaching`` as ``ramq teach`` uses it, on N pictures of a kind and half of all the others, of which
nobody says what they show: the mean average precision on the rest, and the precision and recall of the threshold there,
for two precisions that were asked for, if as many pictures were of the kind as there are. Also of those alone whose
threshold reaches the precision on the pictures at hand.
*rules*: the same on 10 and 20 pictures, by how cautiously the unnamed pictures of the kind are counted: as many as they
seem, one or two standard deviations less, none.

``--archive 100000`` instead copies 100 of the pictures, once recognised, until there are so many, with features that
differ by noise. It measures the time of ``ramq teach``, ``--suggest`` and ``--apply`` from the command line, each a
process of its own, the memory of the first, and at which rate one worker gives the tag to images.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from benchmarks.bench_retrieval import SIMILAR
from benchmarks.labelled import folder_of, opened, photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.features import unpack_pooled
from ram_core.lite.network import SIZES
from ram_core.teaching import judging
from ram_core.teaching.fitting import NO, UNNAMED, YES, Examples, fit
from ram_core.teaching.inputs import inputs
from ram_core.teaching.logistic import regress
from ram_core.teaching.measures import average_precision
from ramq.embedded import embedded
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from storage.index.feature_files import FeatureFiles
from storage.index.file_storage import open_storage
from storage.migrate import upgrade
from storage.results import features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine

BATCH = 32
OTHERS = 50
DRAWS, TAUGHT_DRAWS = 3, 1
SHOWN = (5, 10, 20, 50)
ASKED = (0.8, 0.9)
COPIED = 100
WORKED_SECONDS = 30.0
LEAST_LEFT = 5
"""Pictures of a kind that must be left to judge by."""


class Pictures:
    """What ``lite`` makes of pictures. ``rows`` is (N, R), as it is kept."""

    def __init__(self, paths: Sequence[Path]) -> None:
        model: Any = load_model("lite")
        rows, vectors, exact = [], [], []
        for start in range(0, len(paths), BATCH):
            pixels = np.stack([opened(path, model.preprocessing) for path in paths[start : start + BATCH]])
            for one in model.predict(pixels, features="pooled"):
                rows.append(one.features)
                vectors.append(one.vector)
            exact.append(_exact(model, pixels))
        self.kinds = np.array([folder_of(path) for path in paths])
        self.rows: NDArray[np.uint8] = np.stack(rows)
        pooled, *groups = (_unit(part) for part in unpack_pooled(self.rows, SIZES))
        self.by = {
            "vector": np.stack(vectors),
            "pooled": pooled,
            "look": np.concatenate(groups, axis=1),
            "both": inputs(self.rows, "pooled", 384),
            "both in 32 bits": np.concatenate(exact),
        }


def _exact(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what heads take, without rounding to 8 bits."""
    import torch  # noqa: PLC0415

    from ram_core.lite.network import see  # noqa: PLC0415
    from ram_core.transforms import normalise  # noqa: PLC0415

    with torch.inference_mode():
        batch = normalise(torch.tensor(pixels), model.preprocessing.mean, model.preprocessing.std)
        return np.concatenate([_unit(part.numpy()) for part in see(model.network, batch).parts], axis=1)


def _unit(part: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return unit


def compare_features(pictures: Pictures) -> dict[str, Any]:
    """Judge regressions, and neighbours, by what they are computed from."""
    kinds, found = pictures.kinds, {}
    sizes = Counter(kinds)
    for name, x in pictures.by.items():
        random, precisions = np.random.default_rng(0), defaultdict(list)
        for shown in (SHOWN[0], SHOWN[2]):
            for kind in sorted(kind for kind, size in sizes.items() if size >= shown + LEAST_LEFT):
                for _ in range(DRAWS):
                    yes = random.choice(np.flatnonzero(kinds == kind), shown, replace=False)
                    no = random.choice(np.flatnonzero(kinds != kind), OTHERS, replace=False)
                    labels = np.repeat(np.array([YES, NO], dtype=np.int8), [shown, OTHERS])
                    made = regress(x[np.concatenate([yes, no])], labels)
                    rest = np.setdiff1d(np.arange(len(kinds)), np.concatenate([yes, no]))
                    precisions[shown].append(average_precision(kinds[rest] == kind, x[rest] @ made[:-1]))
        cosines = _unit(x) @ _unit(x).T
        np.fill_diagonal(cosines, -np.inf)
        near = [
            (kinds[np.argsort(-cosines[i])[:SIMILAR]] == kind).mean()
            for i, kind in enumerate(kinds)
            if sizes[kind] > SIMILAR
        ]
        found[name] = {
            "numbers": x.shape[1],
            **{f"taught_by_{shown}": round(float(np.mean(each)), 4) for shown, each in precisions.items()},
            f"alike_in_{SIMILAR}": round(float(np.mean(near)), 4),
        }
        print(name, found[name], flush=True)
    return found


def compare_rules(pictures: Pictures) -> dict[str, Any]:
    """Judge thresholds by how cautiously the unnamed pictures of the kind are counted."""
    found, used = {}, judging._DEVIATIONS  # noqa: SLF001  (a constant, which people need not set)
    for name, deviations in (("all", 0.0), ("one_deviation_less", 1.0), ("two_less", 2.0), ("none", 1e9)):
        judging._DEVIATIONS = deviations  # noqa: SLF001
        found[name] = teach_kinds(pictures, SHOWN[1:3], ASKED[1:])
    judging._DEVIATIONS = used  # noqa: SLF001
    return found


def teach_kinds(
    pictures: Pictures, numbers: Sequence[int] = SHOWN, all_asked: Sequence[float] = ASKED
) -> list[dict[str, Any]]:
    """Judge what is taught on so many pictures, with precisions that were asked for."""
    kinds, x, table = pictures.kinds, pictures.by["both"], []
    for shown in numbers:
        random = np.random.default_rng(0)
        chosen = sorted(kind for kind, size in Counter(kinds).items() if size >= shown + LEAST_LEFT)
        counts: dict[float, list[tuple[float, float, int, bool]]] = {asked: [] for asked in all_asked}
        precisions, seconds = [], []
        for kind in chosen:
            for _ in range(TAUGHT_DRAWS):
                yes = random.choice(np.flatnonzero(kinds == kind), shown, replace=False)
                rest = np.setdiff1d(np.arange(len(kinds)), yes)
                unnamed = random.choice(rest, len(rest) // 2, replace=False)
                judged = np.setdiff1d(rest, unnamed)
                labels = np.repeat(np.array([YES, UNNAMED], dtype=np.int8), [shown, len(unnamed)])
                is_kind = kinds[judged] == kind
                if not is_kind.any():
                    continue
                for asked in all_asked:
                    began = time.perf_counter()
                    fitted = fit(
                        Examples(x[np.concatenate([yes, unnamed])], labels, others=len(rest)), precision=asked, tag_id=0
                    )
                    seconds.append(time.perf_counter() - began)
                    logits = fitted.head.logits(x[judged], np.zeros(len(judged), dtype=np.float32))
                    passed = logits > 0
                    # As if all pictures of the kind were unseen: those that taught it would make it look rarer.
                    all_right = int((kinds == kind).sum())
                    right = passed[is_kind].mean() * all_right
                    wrong = passed[~is_kind].mean() * (len(kinds) - all_right)
                    counts[asked].append((right, right + wrong, all_right, fitted.is_reached))
                precisions.append(average_precision(is_kind, logits))
        row: dict[str, Any] = {
            "pictures": shown,
            "kinds": len(chosen),
            "mean_average_precision": round(float(np.mean(precisions)), 4),
            "seconds": round(float(np.median(seconds)), 2),
        }
        for asked, each in counts.items():
            row[f"asked_{asked:g}"] = _judged(each) | {
                "reached_share": round(sum(one[3] for one in each) / len(each), 3),
                "reached": _judged([one for one in each if one[3]]),
            }
        print(row, flush=True)
        table.append(row)
    return table


def _judged(counts: Sequence[tuple[float, float, int, bool]]) -> dict[str, Any]:
    right, passed, kind = (sum(one[i] for one in counts) for i in range(3))
    return {
        "precision": round(float(right / passed), 4) if passed else None,
        "recall": round(float(right / kind), 4) if kind else None,
    }


def in_archive(paths: Sequence[Path], rows: int) -> dict[str, Any]:
    """Time the command line on an archive of copies."""
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "services") as servers:
        engine = make_engine(servers.database_url)
        upgrade(engine)
        settings = Settings(data_dir=Path(folder) / "data")
        services = Services(settings, engine, None, is_reachable=False)
        ids = _record(services, Path(folder) / "pictures", paths)
        _multiply(engine, settings, ids, rows)
        kinds = np.array([folder_of(path) for path in paths])
        kind = Counter(kinds.tolist()).most_common(1)[0][0]
        yes = [ids[i] for i in np.flatnonzero(kinds == kind)[:8]]
        environment = {
            **os.environ,
            "RAMQ_DATA_DIR": str(settings.data_dir),
            "RAMQ_DATABASE_URL": servers.database_url,
            "RAMQ_BROKER_URL": servers.broker_url,
        }
        named = [argument for image_id in yes for argument in ("--yes", str(image_id))]
        found: dict[str, Any] = {"images": rows}
        for name, more in (("fit", []), ("suggest", ["--suggest", "12"]), ("apply", ["--apply"])):
            command = [sys.executable, "-m", "ramq.cli.main", "teach", "a new thing", *named, *more, "--json"]
            began = time.perf_counter()
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            told = done.stdout
            found[f"{name}_seconds"] = round(time.perf_counter() - began, 1)
            if name == "fit":
                found["fit_inside_seconds"] = json.loads(told)["items"][0]["seconds"]
                found["fit_peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
            print(name, found, flush=True)
        found["applied_images_per_second"] = _work(services, json.loads(told)["jobs"][0]["id"])
        engine.dispose()
    return found


def _record(services: Services, folder: Path, paths: Sequence[Path]) -> list[int]:
    """Recognise the pictures. Return their ids in the order of the paths."""
    import shutil  # noqa: PLC0415

    from tests.services.recognised import recognise  # noqa: PLC0415

    folder.mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, folder / f"{number:06}{path.suffix}")
    job = recognise(services, str(folder))
    if job.done != len(paths):
        raise SystemExit(f"{job.failed} pictures failed")
    with unit_of_work(services.engine) as session:
        return list(session.scalars(text("SELECT id FROM image ORDER BY key")))


def _multiply(engine: Engine, settings: Settings, ids: Sequence[int], rows: int) -> None:
    """Copy images, records, vectors and features until there are so many."""
    files, random, step = FeatureFiles(open_storage(settings.index_location)), np.random.default_rng(0), 1_000_000
    offsets = np.cumsum([0, *(4 + size for size in SIZES)])
    numbers = np.ones(offsets[-1], dtype=np.bool_)
    for start in offsets[:-1]:
        numbers[start : start + 4] = False
    with unit_of_work(engine) as session:
        places = features.kept(session, 1, ids)
        kept = files.rows([(places[i].file or "", places[i].position or 0) for i in ids])
        names = {
            table: list(
                session.scalars(
                    text("SELECT attname FROM pg_attribute WHERE attrelid = CAST(:t AS regclass) AND attnum > 0"),
                    {"t": table},
                )
            )
            for table in ("image", "record", "vector")
        }
    for copy in range(1, -(-rows // len(ids))):
        some = list(ids)[: rows - copy * len(ids)]
        with unit_of_work(engine) as session:
            for table, columns in names.items():
                changed = {"id": "id + :by", "image_id": "image_id + :by", "key": "key || :by"}
                chosen = ", ".join(changed.get(name, name) for name in columns if name != "xid")
                into = ", ".join(name for name in columns if name != "xid")
                own = "id" if table == "image" else "image_id"
                session.execute(
                    text(f"INSERT INTO {table} ({into}) SELECT {chosen} FROM {table} WHERE {own} = ANY(:ids)"),
                    {"by": copy * step, "ids": some},
                )
            listed = session.execute(text("SELECT id, version FROM image WHERE id = ANY(:ids)"), {"ids": some})
            versions = {row.id: row.version for row in listed}
            for at in range(0, len(some), BATCH):
                table_rows = kept[at : at + BATCH][: len(some) - at].copy()
                noise = random.integers(-2, 3, table_rows.shape).astype(np.int8)
                noise[:, ~numbers] = 0
                table_rows = (table_rows.view(np.int8).astype(np.int16) + noise).clip(-127, 127).astype(np.int8)
                final = kept[at : at + BATCH][: len(some) - at].copy()
                final[:, numbers] = table_rows.view(np.uint8)[:, numbers]
                file = files.write(1, "pooled", final)
                part = some[at : at + BATCH]
                features.link(
                    session,
                    1,
                    file,
                    {image_id + copy * step: (n, versions[image_id]) for n, image_id in enumerate(part)},
                )


def _work(services: Services, job_id: int) -> float:
    """Do a job for a minute, with one worker in this process. Return images per second."""
    from tests.services.recognised import make_worker  # noqa: PLC0415

    worker = make_worker(services)
    while not services.jobs.get(job_id).done:  # the first shard: models are loaded
        worker.work()
    began, before = time.perf_counter(), services.jobs.get(job_id).done
    while not services.jobs.get(job_id).is_over and time.perf_counter() < began + WORKED_SECONDS:
        worker.work()
    rate = (services.jobs.get(job_id).done - before) / (time.perf_counter() - began)
    worker.leave()
    return round(rate, 1)


def main() -> None:
    """Measure, print and write."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    parser.add_argument("--archive", type=int, metavar="IMAGES", help="measure the command line on so many instead")
    chosen = parser.parse_args()
    paths = [*stamps(chosen.stamps).paths, *photographs().paths]
    if not paths:
        parser.error("no labelled pictures: run `python tests/photographs.py`, or see --help for the stamps")
    report = begin(pictures=len(paths))
    if chosen.archive:
        report["archive"] = in_archive(paths[:: max(1, len(paths) // COPIED)][:COPIED], chosen.archive)
        write(chosen, "teach-archive", report)
        return
    pictures = Pictures(paths)
    report["features"] = compare_features(pictures)
    report["teach"] = teach_kinds(pictures)
    report["rules"] = compare_rules(pictures)
    write(chosen, "teach", report)


if __name__ == "__main__":
    main()
