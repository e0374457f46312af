"""How fast one worker is, by stage, model and kind of device: reported by workers, kept when none is alive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

_REMEMBERED_SECONDS = 3600.0
"""When there is more than this much work in a row, older work counts half."""

_KEPT = f"CASE WHEN pace.seconds > {_REMEMBERED_SECONDS} THEN 0.5 ELSE 1 END"


@dataclass(frozen=True, slots=True)
class Worked:
    """What one worker did since its last report: ``images`` of one stage and model in ``seconds``."""

    stage: str
    model: str
    images: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one worker is with a model of a stage.

    Attributes:
        device: kind of device: ``cpu``, ``cuda`` or ``mps``.
        images_per_second: the mean over the last hours of work, of all workers on such devices.
        deviation: standard deviation of the rates that workers reported, each weighted by its time.
        seconds: the working time that it was measured in.
    """

    stage: str
    model: str
    device: str
    images_per_second: float
    deviation: float
    seconds: float
    measured_at: datetime


def device_kind(device: str) -> str:
    """Return the kind of a device: ``cuda`` for ``cuda:1``."""
    return device.partition(":")[0]


def add(session: Session, device: str, worked: Sequence[Worked]) -> None:
    """Add what a worker did on a device. Rows are locked in one order, so workers do not wait for each other in rings.

    Times of other workers are added up, too: the quotient is the mean rate of one worker.
    """
    rows = [each for each in sorted(worked, key=lambda each: (each.stage, each.model)) if each.images and each.seconds]
    if rows:
        session.execute(
            text(
                f"""
                INSERT INTO pace (stage, model, device, images, seconds, squares)
                VALUES (:stage, :model, :device, :images, :seconds, :squares)
                ON CONFLICT (stage, model, device) DO UPDATE SET measured_at = now(),
                    images = excluded.images + pace.images * {_KEPT},
                    seconds = excluded.seconds + pace.seconds * {_KEPT},
                    squares = excluded.squares + pace.squares * {_KEPT}
                """  # noqa: S608  (a constant of this file)
            ),
            [
                {**asdict(each), "device": device_kind(device), "squares": each.images**2 / each.seconds}
                for each in rows
            ],
        )


def paces(session: Session) -> list[Pace]:
    """Return what was measured, by stage, model and device."""
    rows = session.execute(
        text(
            """SELECT stage, model, device, images / seconds AS rate, seconds, measured_at,
                   sqrt(greatest(0, squares / seconds - (images / seconds) ^ 2)) AS deviation
               FROM pace ORDER BY stage, model, device"""
        )
    )
    return [
        Pace(row.stage, row.model, row.device, row.rate, row.deviation, row.seconds, row.measured_at) for row in rows
    ]
