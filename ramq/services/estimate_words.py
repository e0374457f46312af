"""An estimate in words: the same lines on the command line and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.services.estimate_views import EstimatedWorkers, EstimateView, Range


def lines_of(view: EstimateView, duration: Callable[[float], str], size: Callable[[int], str]) -> list[tuple[str, str]]:
    """Return each line: what it is about, and how much. ``duration`` says seconds, ``size`` says bytes."""

    def hours(value: float) -> str:
        return duration(value * 3_600)

    def room(value: float) -> str:
        return size(round(value))

    assumed = "" if view.are_alive or view.hours is None else ", on assumed workers"
    lines = [
        ("images", said(view.images, _number)),
        ("size", said(view.size_bytes, room)),
        *((f"{each.stage}, {each.model}", _workers(each)) for each in view.workers),
        ("time", said(view.hours, hours) + assumed),
        ("other jobs first", "not known" if view.waiting_hours is None else hours(view.waiting_hours)),
        ("GPU hours", said(view.gpu_hours, _decimal)),
        ("CPU worker hours", said(view.cpu_hours, _decimal)),
        ("requests", said(view.requests, _number)),
        ("database", said(view.database_bytes, room)),
        ("index", said(view.index_bytes, room)),
    ]
    return lines if view.cost is None else [*lines, ("cost", said(view.cost, _decimal))]


def said(amount: Range | None, words: Callable[[float], str]) -> str:
    """Return a range in words."""
    if amount is None:
        return "not known"
    if amount.high is None:
        return f"at least {words(amount.low)}"
    low, high = words(amount.low), words(amount.high)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return f"{round(value):,}"


def _decimal(value: float) -> str:
    return f"{value:,.2f}"


def _workers(each: EstimatedWorkers) -> str:
    rate = "rate not known"
    if each.images_per_second is not None:
        rate = f"{said(each.images_per_second, lambda value: f'{value:,.1f}')} images/s ({each.basis})"
    return f"{each.workers} on {each.device}, {rate}"
