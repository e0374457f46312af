"""Back an installation up while a job runs, lose it, restore it in three ways, and check that nothing is missing.

    python -m benchmarks.rehearse_restore --rows 1000000

The installation has made-up recognised images, two archives of pictures that workers recognise, read and locate,
corrections, keywords, users, tokens, a quota, a tag rule, a data set, and deletions. While workers recognise the second
archive, it is backed up by ``pg_dump`` and by ``pg_basebackup``; its log is archived all the time. Then images are
deleted for good, the wrong folder is deleted by mistake, and a table is dropped. It is restored

* ``dump``: from the dump, into a new cluster and an empty data folder;
* ``base``: from the base backup, into an empty data folder;
* ``time``: from the base backup and the archived log, to just before the mistake, beside the index of the lost one.

After each: ``ramq db upgrade`` and ``ramq db check``, the job goes on and ends, every record is that of its picture,
once; the index is verified; what people said is as it was; and ``ramq delete --again`` erases what had been deleted for
good. It stops at the first difference.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks.rehearsal import Site, check_index, check_recognised, fill, recognise, said, say, site
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from ramq.embedded import embedded
from ramq.embedded.layout import Layout
from ramq.services.index import make_builder
from storage.database import driver_connection, make_engine, unit_of_work
from storage.migrate import upgrade
from tests.services.fleet import wait_for
from tests.services.restoring import Backups, archived, open_folder, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

WIDTH = 512
ERASED, MISTAKEN = "0000", "0001"
"""The beginnings of keys of the second archive that are deleted for good, and by mistake."""
FORGOTTEN = "0003"
"""That of keys of the first archive that are deleted before the backups."""
BATCH = 16


@dataclass
class Rehearsal:
    """What is known while it goes on.

    Attributes:
        folder: for everything.
        rows: made-up images.
        slow_seconds: how long the second job takes while the backups are taken. It must not end before they do.
        first: the files of the first archive, by key; of the second: ``second``.
        told: what people had said when the backups were taken; ``told_last``: just before the mistake.
        done_at_backup: how many images of the second job were done when the backups began, and when they had ended.
        mistake_at: when the wrong deletion began.
        figures: seconds and bytes, by name.
    """

    folder: Path
    rows: int
    slow_seconds: float
    first: dict[str, bytes] = field(default_factory=dict)
    second: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    told_last: dict[str, str] = field(default_factory=dict)
    done_at_backup: tuple[int, int] = (0, 0)
    mistake_at: datetime | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long the block took, and the load of the machine."""
        began = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - began, 2)
        self.figures[name] = {"seconds": seconds, "load": round(os.getloadavg()[0], 1)}
        print(f"{name:40} {seconds:10.2f} s", flush=True)

    def sized(self, name: str, size: int) -> None:
        """Note a size."""
        self.figures[f"bytes of {name}"] = size
        print(f"{name:40} {size / 1e6:10.1f} MB", flush=True)


def rehearse(folder: Path, *, rows: int, pictures: int, slow_seconds: float) -> Rehearsal:
    """Do all of it.

    Args:
        folder: an empty one that the server's user may enter.
        rows: made-up images beside the pictures.
        pictures: in each of the two archives, 200 to 10,000.
        slow_seconds: how long the second job takes while the backups are taken.

    Raises:
        RuntimeError: something was lost, came twice or differs.
    """
    known = Rehearsal(folder, rows, slow_seconds)
    backups = Backups(folder, Layout.create(folder / "lost"))
    with embedded(folder / "lost") as services:
        engine = make_engine(services.database_url)
        upgrade(engine)
        backups.begin_archiving(engine)
        engine.dispose()
    with site(folder / "lost") as place:
        _live(known, backups, place, pictures)
    shutil.rmtree(folder / "lost" / "postgres")
    _from_dump(known, backups)
    _from_base(known, backups)
    _from_log(known, backups)
    return known


def _live(known: Rehearsal, backups: Backups, place: Site, pictures: int) -> None:
    """Use an installation, back it up while a job runs, and ruin it."""
    services, url = place.services, place.settings.database_url or ""
    if known.rows:
        _make_up(services, known.rows)
    place.fleet.start(1)
    known.first = recognise(place, known.folder / "first", pictures)
    say(services, known.folder / "first")
    place.command("delete", "--prefix", FORGOTTEN, "--archive", str(known.folder / "first"), "--yes")
    check_index(services)
    known.sized("database", _database_size(services))
    known.sized("index", size_of(known.folder / "lost" / "index"))
    known.told = said(services)

    place.fleet.end()
    place.fleet.processes.clear()
    [slow] = place.fleet.start(1, NULL_MODEL_SECONDS=str(known.slow_seconds * BATCH / pictures))
    known.second = fill(known.folder / "second", pictures, first=pictures)
    job = services.jobs.create(str(known.folder / "second"))
    before = wait_for(services, job.id, place.fleet, lambda view: view.done > 0)
    with _stopped_halfway(place, slow.pid, job.id):
        with known.timed("pg_dump"):
            dump = backups.dump(url)
        with known.timed("pg_basebackup"):
            base = backups.base_backup(url)
        after = services.jobs.get(job.id)
    if after.is_over:
        raise RuntimeError(f"the job ended before the backups did: {after}")
    known.done_at_backup = before.done, after.done
    with known.timed("pg_verifybackup"):
        backups.verify(base)
    known.sized("dump", size_of(dump))
    known.sized("base backup", size_of(base))

    place.fleet.kill(slow)  # works on a stopped process too
    place.fleet.start(1)
    place.ended(job)
    second = str(known.folder / "second")
    place.command("delete", "--prefix", ERASED, "--archive", second, "--yes")
    check_index(services)
    known.told_last = said(services)
    place.command("delete", "--prefix", MISTAKEN, "--archive", second, "--yes")
    known.mistake_at = services.erasures.list()[-1].begun_at
    check_index(services)  # the index of the lost database is newer than what will be restored
    place.fleet.end()
    with unit_of_work(services.engine) as session:
        driver_connection(session).execute("DROP TABLE record CASCADE")
    archived(services.engine)
    known.sized("archived log", size_of(backups.archive))


@contextmanager
def _stopped_halfway(place: Site, pid: int, job_id: int) -> Iterator[None]:
    """Stop a worker when half of its job is done, if that is so before the block ends: the job must not end in it."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            view = place.services.jobs.get(job_id)
            if view.done > view.listed / 2:
                os.kill(pid, signal.SIGSTOP)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _from_dump(known: Rehearsal, backups: Backups) -> None:
    """Restore the dump into a new cluster."""
    with embedded(known.folder / "dump") as services, known.timed("pg_restore"):
        backups.restore(known.folder / "ramq.dump", services.database_url)
    _use_the_log_of_deletions(known, "dump")
    with site(known.folder / "dump") as place:
        _go_on(known, place, "dump", known.told)
    shutil.rmtree(known.folder / "dump")


def _from_base(known: Rehearsal, backups: Backups) -> None:
    """Start the base backup."""
    with known.timed("base backup: copy and start"):
        backups.lay(known.folder / "base", known.folder / "restored")
        with embedded(known.folder / "restored"):
            pass
    _use_the_log_of_deletions(known, "restored")
    with site(known.folder / "restored") as place:
        _go_on(known, place, "base", known.told)
    shutil.rmtree(known.folder / "restored")


def _from_log(known: Rehearsal, backups: Backups) -> None:
    """Recover the base backup and the log to just before the mistake; the index is that of the lost database."""
    with known.timed("point in time: copy and recover"):
        backups.lay(known.folder / "base", known.folder / "time", until=known.mistake_at)
        with embedded(known.folder / "time") as services:
            engine = make_engine(services.database_url)
            _await_promotion(engine)
            engine.dispose()
    with site(known.folder / "time", index=known.folder / "lost" / "index") as place:
        _go_on(known, place, "time", known.told_last)


def _go_on(known: Rehearsal, place: Site, way: str, told: dict[str, str]) -> None:
    """Check a restored installation, let its job end, and erase again what had been deleted for good."""
    services = place.services
    with known.timed(f"{way}: db upgrade"):
        place.command("db", "upgrade")
    place.command("db", "check")
    if said(services) != told:
        now = said(services)
        raise RuntimeError(
            f"{way}: differs from what people had said: {[name for name in told if told[name] != now[name]]}"
        )
    with known.timed(f"{way}: index"):
        made_up = _rebuilt(place) if way != "time" else check_index(services)
    known.figures[f"{way}: index"]["vectors"] = made_up
    place.fleet.start(2)
    [job] = [each for each in services.jobs.list().items if each.source.endswith("second")]
    with known.timed(f"{way}: rest of the job"):
        place.ended(job)
    is_later = way == "time"
    gone = [key for key in known.second if key.startswith(ERASED)]
    check_recognised(services, job.id, known.second, gone if is_later else ())
    check_index(services)
    # What was deleted for good after the backup is here again, and goes. What was deleted by mistake stays.
    wrong = [each.number for each in services.erasures.unknown()[0]][-1]
    answer = place.command("delete", "--again", "--except", str(wrong), "--yes")
    print(f"{way}: {answer.strip()}", flush=True)
    check_recognised(services, job.id, known.second, gone)
    place.command("index", "compact")
    check_index(services)
    if services.erasures.unknown()[0] and any(each.same for each in services.erasures.unknown()[0]):
        raise RuntimeError(f"{way}: deleted images are left")
    records = _count(services, "record")
    expected = (
        known.rows + len(known.second) - len(gone) + len([key for key in known.first if not key.startswith(FORGOTTEN)])
    )
    if records != expected:
        raise RuntimeError(f"{way}: {records} records, expected {expected}")


def _rebuilt(place: Site) -> dict[int, int]:
    """Let the index be made from the database, as a worker does when it finds none that belongs to it."""
    services = place.services
    builder = make_builder(place.settings, services.engine)
    for status in services.index.status():
        builder.publish_new(status.generation_id, force=True)
    return check_index(services)


def _use_the_log_of_deletions(known: Rehearsal, name: str) -> None:
    """Copy the log of deletions, as an operator does who keeps it beside the backups."""
    shutil.copytree(known.folder / "lost" / "index" / "erasures", known.folder / name / "index" / "erasures")


def _await_promotion(engine: Any) -> None:
    while True:
        with unit_of_work(engine) as session:
            if not session.scalar(text("SELECT pg_is_in_recovery()")):
                return
        time.sleep(0.1)


def _make_up(services: Any, rows: int) -> None:
    engine = services.engine
    provenance = prepare(engine, width=WIDTH)
    maker = Maker(WIDTH)
    for first in range(0, rows, CHUNK):
        load(engine, maker.chunk(first // CHUNK, min(CHUNK, rows - first)), provenance)
    with unit_of_work(engine) as session:
        session.execute(text("SELECT setval(pg_get_serial_sequence('image', 'id'), max(id)) FROM image"))


def _count(services: Any, table: str) -> int:
    with unit_of_work(services.engine) as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def _database_size(services: Any) -> int:
    with unit_of_work(services.engine) as session:
        return int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def main() -> None:
    """Rehearse, print a table, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=0, help="made-up images beside the pictures")
    parser.add_argument("--pictures", type=int, default=1000, help="in each of the two archives, 200 to 10,000")
    parser.add_argument("--slow", type=float, default=60.0, help="seconds that the job lasts while backups are taken")
    chosen = parser.parse_args()
    report = begin() | {"rows": chosen.rows, "pictures": chosen.pictures}
    with open_folder() as folder:
        known = rehearse(folder, rows=chosen.rows, pictures=chosen.pictures, slow_seconds=chosen.slow)
    report |= {"done_at_backup": known.done_at_backup, "figures": known.figures}
    write(chosen, "restore", report)


if __name__ == "__main__":
    main()
