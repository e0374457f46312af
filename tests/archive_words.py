"""What the made-up archive of ``tests.archive_model`` is made of, and how each thing may be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage.results.vocabularies import VocabularySpec

VOCABULARIES = (
    VocabularySpec(
        "a",
        "animals",
        ("dog", "Cat", "beach", "red boat", "dog", "people", "rare"),
        ("狗", "猫", None, "船", "犬", "船", None),
        (0.5, 0.3, 0.68, 0.5, 0.7, 0.999, 0.2),
    ),
    VocabularySpec("b", "others", ("cat", "sea", "dog"), (None, None, None), (0.2, 0.5, 0.6)),
)
# How each may be asked for, and which tags are meant.
SPELLINGS = (
    {"dog": (0, 4), "狗": (0,), "cat": (1,), "船": (3, 5), "BEACH": (2,), "red boat": (3,), "people": (5,), "6": (6,)},
    {"Cat": (0,), "sea": (1,), "dog": (2,), "1": (1,)},
)
KEYS = ("2024/a {n}.jpg", "2024/x/{n}.png", "2023/{n}", "é/{n}", "zz{n}", "20%_{n}")
ARCHIVES = ("s3://photos", "s3://photos-of-others", "file:///archive/office")
# How each may be asked for: its number in ARCHIVES, and what keys begin with then.
ARCHIVE_SPELLINGS = {
    "s3://photos": (0, ""),
    "s3://photos/2024": (0, "2024/"),
    "photos": (0, ""),
    "s3://photos-of-others": (1, ""),
    "office": (2, ""),
    "file:///archive/office/2024/x": (2, "2024/x/"),
}
DAY = datetime(2024, 3, 1, tzinfo=UTC)
DATES = ("2024-03-02", "2024-03-03T12:00", "2024-03-04T00:00+02:00", "2024", "2024-04")
SIZES = {"1kB": 1000, "1KiB": 1024, "1.5 MB": 1_500_000, "0": 0, "3000000": 3_000_000}


def moment(text: str) -> datetime:
    """Return the moment of one of ``DATES``."""
    return {
        "2024-03-02": DAY + timedelta(days=1),
        "2024-03-03T12:00": DAY + timedelta(days=2, hours=12),
        "2024-03-04T00:00+02:00": DAY + timedelta(days=2, hours=22),
        "2024": datetime(2024, 1, 1, tzinfo=UTC),
        "2024-04": datetime(2024, 4, 1, tzinfo=UTC),
    }[text]
