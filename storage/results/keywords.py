"""The keywords that people give images: what they may be, and what an image has.

Acts give and remove them (``results.keyword_acts``). What an image has then is kept in one row, for searches.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import driver_connection
from storage.errors import UsageError
from storage.results.metadata import folds_of
from storage.texts import fold
from storage.words import distinct_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

MAX_LENGTH = 200
"""Characters of a keyword."""

MAX_BYTES = 1_000
"""Of a keyword as it is compared. PostgreSQL's indexes take 2,700."""

MAX_AT_ONCE = 50
"""Keywords of one act."""

MAX_OF_IMAGE = 500
"""Keywords of one image."""

_LAST = """
    SELECT DISTINCT ON (image_id, fold) image_id, fold, word, is_present, act_id
    FROM keyword_said WHERE image_id = ANY(%(ids)s::bigint[]) ORDER BY image_id, fold, act_id DESC
"""
_WORDS = f"""
    SELECT own.id, array_agg(word ORDER BY act_id, fold) FILTER (WHERE is_present)
    FROM unnest(%(ids)s::bigint[]) AS own (id) LEFT JOIN ({_LAST}) AS last ON last.image_id = own.id
    GROUP BY own.id ORDER BY own.id
"""  # noqa: S608  (constants)
_WRITE = """
    INSERT INTO keyword (image_id, words, folds, tokens)
    SELECT image_id, words, folds, tokens
    FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb))
        AS made (image_id bigint, words text[], folds text[], tokens text[])
    WHERE cardinality(words) > 0 OR EXISTS (SELECT FROM keyword WHERE keyword.image_id = made.image_id)
    ORDER BY image_id
    ON CONFLICT (image_id) DO UPDATE SET words = excluded.words, folds = excluded.folds, tokens = excluded.tokens,
        xid = pg_current_xact_id()
    WHERE keyword.words <> excluded.words
"""
_COUNTS = """
    SELECT (array_agg(word ORDER BY word))[1] AS word, count(*) AS images
    FROM keyword CROSS JOIN LATERAL unnest(words) AS word
    CROSS JOIN LATERAL lower(normalize(word, NFKC)) AS folded
    WHERE starts_with(folded, lower(normalize(CAST(:beginning AS text), NFKC)))
    GROUP BY folded ORDER BY images DESC, word LIMIT :limit OFFSET :offset
"""


@dataclass(frozen=True, slots=True)
class KeywordView:
    """A keyword that a person gave an image.

    Attributes:
        word: as it was typed.
        said_by: the name of a token, or ``local``.
        said_at: when.
        act_id: the act that gave it, which can be undone.
    """

    word: str
    said_by: str
    said_at: datetime
    act_id: int


@dataclass(frozen=True, slots=True)
class KeywordCount:
    """A keyword, and how many images have it because people gave it to them."""

    word: str
    images: int


def checked(typed: Iterable[str]) -> list[str]:
    """Return keywords as they are kept: without white space around them, and each only once.

    Raises:
        UsageError: one of them is empty, too long, or has characters that no word has; or there are too many.
    """
    found: dict[str, str] = {}
    for each in typed:
        word = " ".join(each.split())
        if not word or not any(unicodedata.category(one)[0] in "LNSP" for one in word):
            raise UsageError("a keyword must have at least one letter, digit or sign")
        if len(word) > MAX_LENGTH or len(fold(word).encode(errors="surrogatepass")) > MAX_BYTES:
            raise UsageError(f"a keyword has at most {MAX_LENGTH} characters; {word[:40]!r}… is longer")
        if odd := next((one for one in word if unicodedata.category(one) in {"Cc", "Cs"}), None):
            raise UsageError(f"a keyword must not have control characters, such as {odd!a} in {word!a}")
        found.setdefault(fold(word), word)
    if len(found) > MAX_AT_ONCE:
        raise UsageError(f"at most {MAX_AT_ONCE} keywords at once; these are {len(found)}")
    return list(found.values())


def settle(session: Session, image_ids: Collection[int]) -> None:
    """Keep anew which keywords images have, after what people said of them changed. The images are locked."""
    if not image_ids:
        return
    connection = driver_connection(session)
    found = connection.execute(_WORDS, {"ids": sorted(image_ids)}).fetchall()
    rows = [
        {
            "image_id": image_id,
            "words": words or [],
            "folds": folds_of(words or ()),
            "tokens": distinct_words(words or ()),
        }
        for image_id, words in found
    ]
    connection.execute(_WRITE, {"rows": json.dumps(rows)})


def of_images(session: Session, image_ids: Collection[int]) -> dict[int, list[KeywordView]]:
    """Return the keywords that people gave images, with who and when, in the order in which they came."""
    statement = f"""SELECT image_id, word, said_by, said_at, act_id FROM ({_LAST}) AS last
        JOIN keyword_act ON keyword_act.id = act_id WHERE is_present ORDER BY image_id, act_id, fold"""  # noqa: S608
    found: dict[int, list[KeywordView]] = {}
    for image_id, *what in driver_connection(session).execute(statement, {"ids": list(image_ids)}):
        found.setdefault(image_id, []).append(KeywordView(*what))
    return found


def words_of(session: Session, image_ids: Collection[int]) -> dict[int, list[str]]:
    """Return the words that people gave images, by id. Images without any are left out."""
    rows = session.execute(
        text("SELECT image_id, words FROM keyword WHERE image_id = ANY(:ids) AND words <> '{}'"),
        {"ids": list(image_ids)},
    )
    return {row.image_id: row.words for row in rows}


def holding(session: Session, words: Sequence[str], after: int, limit: int) -> list[int]:
    """Return the next images that have one of these keywords, ascending: at most ``limit`` whose id is above ``after``.

    Levels of hierarchies count too, so some may have a longer keyword only.
    """
    found = session.scalars(
        text(
            """SELECT image_id FROM keyword WHERE folds && CAST(:folds AS text[]) AND image_id > :after
               ORDER BY image_id LIMIT :limit"""
        ),
        {"folds": [fold(word) for word in words], "after": after, "limit": limit},
    )
    return list(found)


def counts(session: Session, beginning: str, limit: int, offset: int = 0) -> list[KeywordCount]:
    """Return the keywords that people gave, the most frequent first. ``beginning``: only those that begin so."""
    rows = session.execute(text(_COUNTS), {"beginning": beginning, "limit": limit, "offset": offset})
    return [KeywordCount(row.word, row.images) for row in rows]


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase the keywords of images, and the acts that were about these images only. Return of how many images.

    An act that somebody is carrying out just now stays.
    """
    ids = {"ids": list(image_ids)}
    acts = session.scalars(text("DELETE FROM keyword_said WHERE image_id = ANY(:ids) RETURNING act_id"), ids).all()
    count = session.execute(text("DELETE FROM keyword WHERE image_id = ANY(:ids)"), ids)
    if acts:
        session.execute(
            text(
                """
                DELETE FROM keyword_act WHERE id IN (
                    SELECT id FROM keyword_act WHERE id = ANY(:acts)
                    AND NOT EXISTS (SELECT FROM keyword_said WHERE act_id = keyword_act.id)
                    AND NOT EXISTS (SELECT FROM keyword_part WHERE act_id = keyword_act.id)
                    ORDER BY id FOR UPDATE SKIP LOCKED)
                """
            ),
            {"acts": sorted(set(acts))},
        )
    return int(count.rowcount)  # type: ignore[attr-defined]
