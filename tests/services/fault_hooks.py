"""What can go wrong inside a worker process at a chosen point, told to ``null_worker`` through its environment.

* ``FAULT_STOP``: the process stops itself (SIGSTOP), once: ``before_write`` (the batch is inferred, its
  transaction has not begun), ``in_write`` (in the middle of it), ``while_waking`` (holding the lock of wake-ups).
* ``FAULT_SKEW_SECONDS``: its clock is wrong by so much, in every way that Python tells the time of day.
* ``FAULT_PAGE_SECONDS``: every page of a listing takes so much longer.
* ``FAULT_PAGE_SIZE``: a page of a listing has so many keys.
* ``FAULT_CLEAN_SECONDS``: every tag of a data set takes so much longer to clean.
* ``FAULT_SLICE_SECONDS``: it goes back to wait for a wake-up after so long, so that wake-ups matter.
* ``FAULT_SILENCE_SECONDS``: it looks for work without a wake-up after so long.
* ``FAULT_NO_FENCE``: its writes do not ask whether the lease is still held. What passes with this proves nothing.
* ``FAULT_FULL_DISK``: no result can be written, since the disk is full, as long as the file of this name is there.
* ``FAULT_ACKNOWLEDGED``: not a fault_hooks but its witness: a file that gets the id of each image whose commit
  was acknowledged.
* ``FAULT_MADE_UP``: every archive has this many images, made from their keys, in place of what is there.
"""

from __future__ import annotations

import datetime as dt
import errno
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def prepare(environment: Mapping[str, str]) -> None:
    """Arrange for what the environment asks for, in this process."""
    if skew := environment.get("FAULT_SKEW_SECONDS"):
        set_clock_wrong(float(skew))
    for name, slow in (
        ("FAULT_PAGE_SECONDS", _slow_pages),
        ("FAULT_CLEAN_SECONDS", _slow_cleaning),
        ("FAULT_SLICE_SECONDS", _shorten_turns),
        ("FAULT_SILENCE_SECONDS", _shorten_silence),
    ):
        if seconds := environment.get(name):
            slow(float(seconds))
    if size := environment.get("FAULT_PAGE_SIZE"):
        _shorten_pages(int(size))
    if environment.get("FAULT_NO_FENCE"):
        _remove_fence()
    if count := environment.get("FAULT_MADE_UP"):
        _make_up_archives(int(count))
    if path := environment.get("FAULT_FULL_DISK"):
        _fill_disk(Path(path))
    if path := environment.get("FAULT_ACKNOWLEDGED"):
        _note_commits(Path(path))
    if point := environment.get("FAULT_STOP"):
        _stop_at(point)


def set_clock_wrong(skew_seconds: float) -> None:
    """Shift what this process believes to be the time of day. Modules that are loaded already are told too."""
    real_time, real_datetime = time.time, dt.datetime
    skew = dt.timedelta(seconds=skew_seconds)

    class OfAnyClock(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class Wrong(dt.datetime, metaclass=OfAnyClock):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return real_datetime.now(tz) + skew

        @classmethod
        def utcnow(cls) -> dt.datetime:  # type: ignore[override]
            return real_datetime.now(dt.UTC).replace(tzinfo=None) + skew

    def wrong_time() -> float:
        return real_time() + skew_seconds

    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is real_datetime:
                setattr(module, name, Wrong)
            elif value is real_time:
                setattr(module, name, wrong_time)


def _slow_cleaning(seconds: float) -> None:
    from workers.datasets import cluster  # noqa: PLC0415  (workers load here)

    decide = cluster._decide

    def slowly(*arguments: Any) -> Any:
        time.sleep(seconds)
        return decide(*arguments)

    cluster._decide = slowly


def _slow_pages(seconds: float) -> None:
    from workers.planner import Planner  # noqa: PLC0415

    record = Planner._record

    def slowly(self: Planner, *arguments: Any) -> None:
        time.sleep(seconds)
        record(self, *arguments)

    Planner._record = slowly  # type: ignore[method-assign]


def _shorten_pages(size: int) -> None:
    from storage.objects import folder, s3  # noqa: PLC0415

    for module in (folder, s3):
        module.PAGE_SIZE = size  # type: ignore[attr-defined]


def _shorten_turns(seconds: float) -> None:
    from workers import lifecycle  # noqa: PLC0415

    lifecycle.SLICE_SECONDS = seconds


def _shorten_silence(seconds: float) -> None:
    from workers import lifecycle  # noqa: PLC0415

    lifecycle.SILENCE_SECONDS = seconds


def _make_up_archives(count: int) -> None:
    from tests.services.made_up import MadeUpStore  # noqa: PLC0415
    from workers import sources, stores  # noqa: PLC0415

    for module in (sources, stores):
        module.open_store = lambda *_: MadeUpStore(count)  # type: ignore[attr-defined]


def _remove_fence() -> None:
    from storage.ledger import shards  # noqa: PLC0415

    advance = shards.advance

    def advance_whoever_asks(session: Any, shard_id: int, _epoch: int, *more: Any, copied: int) -> str:
        from sqlalchemy import text  # noqa: PLC0415

        # Locked, or the shard may end between the question and the write, which would then be fenced after all.
        held = text("SELECT epoch, state FROM shard WHERE id = :id FOR UPDATE")
        shard = session.execute(held, {"id": shard_id}).one()
        if shard.state != "leased":
            return "running"
        return advance(session, shard_id, shard.epoch, *more, copied=copied)

    shards.require_held = lambda *_: None  # type: ignore[assignment]
    shards.advance = advance_whoever_asks  # type: ignore[assignment]


def _fill_disk(path: Path) -> None:
    from workers.pipeline import pipeline  # noqa: PLC0415

    write = pipeline.write

    def write_if_there_is_room(*arguments: Any, **more: Any) -> str:
        if path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **more)

    pipeline.write = write_if_there_is_room


def _note_commits(path: Path) -> None:
    from workers.pipeline import pipeline  # noqa: PLC0415

    write = pipeline.write

    def write_and_tell(engine: Any, batch: Any, *more: Any, **named: Any) -> str:
        state = write(engine, batch, *more, **named)
        done = [work.image.id for work in batch.works if work.failure is None]
        with path.open("ab", buffering=0) as file:
            file.write("".join(f"{number}\n" for number in done).encode())
        return state

    pipeline.write = write_and_tell  # type: ignore[assignment]


def _stop_at(point: str) -> None:
    from storage.ledger import shards  # noqa: PLC0415
    from storage.results import records  # noqa: PLC0415
    from workers.pipeline import pipeline  # noqa: PLC0415

    if point == "before_write":
        pipeline.write = _stopping_before(pipeline.write)
    elif point == "in_write":
        records.write_records = _stopping_before(records.write_records)
    elif point == "while_waking":
        shards.backlog = _stopping_before(shards.backlog)
    else:
        raise ValueError(f"no such point: {point}")


def _stopping_before(function: Callable[..., Any]) -> Callable[..., Any]:
    once = threading.Lock()

    def stop_then_go_on(*arguments: Any, **named: Any) -> Any:
        if once.acquire(blocking=False):
            # To this thread: were it sent to the process, another thread might take it while this one runs on.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return function(*arguments, **named)

    return stop_then_go_on
