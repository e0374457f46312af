"""Small curves as attributes of SVG: the security policy of the page allows no inline styles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.runs import RunView

WIDTH, HEIGHT = 300, 60


class Curve(NamedTuple):
    """A curve from 0 up.

    Attributes:
        name: of what it shows.
        points: of an SVG of ``WIDTH`` x ``HEIGHT``.
        first: its first value.
        last: its last value.
    """

    name: str
    points: str
    first: float
    last: float


def curves(run: RunView) -> list[Curve]:
    """Return the course of each loss of a training, and of its score; only those with two values or more."""
    names = run.points[-1].losses if run.points else ()
    found = [
        _curve(name, [(each.step, each.losses[name]) for each in run.points if name in each.losses]) for name in names
    ]
    found.append(_curve("validation mAP", [(each.epochs, each.validation_map) for each in run.scores], most=1.0))
    return [each for each in found if each is not None]


def _curve(name: str, pairs: Sequence[tuple[int, float]], most: float | None = None) -> Curve | None:
    if len(pairs) < 2:
        return None
    begin, end = pairs[0][0], pairs[-1][0]
    top = most or max(value for _, value in pairs) or 1.0
    places = (
        (WIDTH * (at - begin) / ((end - begin) or 1), HEIGHT * (1 - min(1.0, max(0.0, value / top))))
        for at, value in pairs
    )
    return Curve(name, " ".join(f"{x:.1f},{y:.1f}" for x, y in places), pairs[0][1], pairs[-1][1])
