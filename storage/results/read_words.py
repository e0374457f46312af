"""The dictionary of the words that stand in images, for finding those that a reader misread.

A word is in it as long as it stands in an image under any generation. A transaction that adds words keeps others from
taking words away until it ends: what it wrote is not yet visible to them, and they could take away a word that it
needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import wait_for_lock
from storage.results import misread
from storage.words import can_be_misread, quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

_LOCK = 7_263_776
"""Advisory lock: shared by those who add words, exclusive for those who take words away."""

MAX_NEAR = 10
"""Words that may be one word misread. Each is looked up, and with more of them, hits get doubtful."""


def change(session: Session, added: Collection[str], lost: Collection[str]) -> None:
    """Add words, and take away those of ``lost`` that stand nowhere any more.

    Call it after the readings were written, as the last step of a transaction: others wait for its end.
    """
    lost = sorted(filter(can_be_misread, lost))  # others are not in the dictionary
    if lost:
        # Whoever empties a generation locks its tables before this lock, so this must do the same.
        session.execute(text("LOCK TABLE reading_index IN ACCESS SHARE MODE"))
        wait_for_lock(session, _LOCK)
    elif added:
        session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _LOCK})
    if added:
        _add(session, added)
    if lost:
        _forget(session, lost)


def _add(session: Session, words: Collection[str]) -> None:
    unknown = session.scalars(
        text(
            """SELECT new.word FROM unnest(CAST(:words AS text[])) AS new (word)
               WHERE NOT EXISTS (SELECT FROM read_word WHERE read_word.word = new.word)"""
        ),
        {"words": list(words)},
    ).all()
    if not unknown:
        return
    ordered = sorted(unknown)  # two transactions with common words must not wait for each other in a ring
    session.execute(
        text(
            """INSERT INTO read_word (word, keys)
               SELECT word, CAST(keys AS int[])
               FROM unnest(CAST(:words AS text[]), CAST(:keys AS text[])) AS new (word, keys)
               ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING"""
        ),
        {"words": ordered, "keys": [f"{{{','.join(map(str, misread.keys(word)))}}}" for word in ordered]},
    )


def near(session: Session, words: Collection[str], limit: int = MAX_NEAR) -> dict[str, tuple[str, ...]]:
    """Return, for each word, words that may be this one misread, the nearest first, without itself."""
    rows = session.execute(
        text(
            """SELECT asked.word AS asked, read_word.word
               FROM unnest(CAST(:words AS text[]), CAST(:keys AS text[])) AS asked (word, keys)
               JOIN read_word ON read_word.keys && CAST(asked.keys AS int[])"""
        ),
        {"words": list(words), "keys": [f"{{{','.join(map(str, misread.keys(word)))}}}" for word in words]},
    )
    found: dict[str, list[tuple[int, str]]] = {word: [] for word in words}
    for row in rows:
        distance = misread.distance(row.asked, row.word)
        if distance is not None and row.word != row.asked:
            found[row.asked].append((distance, row.word))
    return {word: tuple(other for _, other in sorted(others)[:limit]) for word, others in found.items()}


def _forget(session: Session, words: list[str]) -> None:
    session.execute(
        text(
            """DELETE FROM read_word
               USING unnest(CAST(:words AS text[]), CAST(:queries AS text[])) AS lost (word, query)
               WHERE read_word.word = lost.word
                   AND NOT EXISTS (SELECT FROM reading_index WHERE words @@ CAST(lost.query AS tsquery))"""
        ),
        {"words": words, "queries": [quoted(word) for word in words]},
    )


def forget_unused(session: Session) -> None:
    """Take away every word that stands nowhere. It reads the words of all images."""
    wait_for_lock(session, _LOCK)
    session.execute(
        text(
            """DELETE FROM read_word WHERE NOT EXISTS (
                   SELECT FROM ts_stat('SELECT words FROM reading_index') AS used WHERE used.word = read_word.word)"""
        )
    )
