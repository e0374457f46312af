"""What a file says of an image, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.results.metadata import MetadataView

_SHORT_SECONDS = 0.3
"""Shorter exposures are written as fractions, as on cameras."""


def lines_of(view: MetadataView) -> list[tuple[str, str]]:
    """Return the facts that are there, each with its name."""
    settings = ", ".join(filter(None, _settings(view)))
    stars = None if view.rating is None else "rejected" if view.rating < 0 else f"{view.rating} of 5"
    found = (
        ("taken", taken(view)),
        ("camera", view.camera),
        ("lens", view.lens),
        ("settings", settings),
        ("place", place(view)),
        ("title", view.title),
        ("description", view.description),
        ("keywords", ", ".join(view.keywords)),
        ("rating", stars),
        ("creator", view.creator),
        ("rights", view.rights),
        ("sidecar", view.sidecar),
    )
    return [(name, value) for name, value in found if value]


def taken(view: MetadataView) -> str | None:
    """Return when an image was taken: ``2023-05-01 18:30:00 +02:00``, or in local time if no zone is known."""
    if view.taken_at is None:
        return None
    at = f"{view.taken_at:%Y-%m-%d %H:%M:%S}"
    if view.taken_offset is None:
        return f"{at} (local time)"
    hours, minutes = divmod(abs(view.taken_offset), 60)
    return f"{at} {'-' if view.taken_offset < 0 else '+'}{hours:02}:{minutes:02}"


def place(view: MetadataView) -> str | None:
    """Return where an image was taken: ``48.20849, 16.37208 (171 m)``."""
    if view.latitude is None or view.longitude is None:
        return None
    height = "" if view.altitude_m is None else f" ({view.altitude_m:.0f} m)"
    return f"{view.latitude:.5f}, {view.longitude:.5f}{height}"


def _settings(view: MetadataView) -> tuple[str | None, ...]:
    seconds = view.exposure_seconds
    exposure = None
    if seconds is not None:
        exposure = f"1/{1 / seconds:.0f} s" if seconds < _SHORT_SECONDS else f"{seconds:g} s"
    return (
        f"{view.focal_mm:g} mm" if view.focal_mm else None,
        f"f/{view.f_number:g}" if view.f_number else None,
        exposure,
        f"ISO {view.iso}" if view.iso else None,
    )
