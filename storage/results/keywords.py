"""The keywords that people give images: what they may be, and what an image has.

Acts give and remove them (``results.keyword_acts``). What an image has then is kept in one row, for searches.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from storage.database import driver_connection
from storage.errors import UsageError
from storage.results.metadata import folds_of
from storage.texts import fold_seen, unseen, without_unseen
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

_SPOKEN = """
    SELECT image_id, act_id, fold, word, is_present, if_any, said_by, said_at
    FROM keyword_said JOIN keyword_act ON keyword_act.id = act_id
    WHERE image_id = ANY(%(ids)s::bigint[]) ORDER BY image_id, act_id, fold
"""
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
    RETURNING image_id
"""
_COUNTS = """
    SELECT (array_agg(word ORDER BY word))[1] AS word, CAST(sum(images) AS bigint) AS images
    FROM (
        SELECT word, count(*) AS images FROM keyword CROSS JOIN LATERAL unnest(words) AS word GROUP BY word
    ) AS spelled
    CROSS JOIN LATERAL lower(normalize(CASE WHEN octet_length(word) = char_length(word) THEN word
        ELSE translate(word, :unseen, '') END, NFKC)) AS folded
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


class Spoken(NamedTuple):
    """What an act says of one image and one word. ``if_any``: only if the image has one of these (folded) by then."""

    act_id: int
    fold: str
    word: str
    is_present: bool
    if_any: Sequence[str] | None
    said_by: str
    said_at: datetime


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
        if len(word) > MAX_LENGTH or len(fold_seen(word).encode(errors="surrogatepass")) > MAX_BYTES:
            raise UsageError(f"a keyword has at most {MAX_LENGTH} characters; {word[:40]!r}… is longer")
        if not fold_seen(word):
            raise UsageError(f"a keyword must have a character that can be seen; {word!a} has none")
        if odd := next((one for one in word if unicodedata.category(one) in {"Cc", "Cs"}), None):
            raise UsageError(f"a keyword must not have control characters, such as {odd!a} in {word!a}")
        found.setdefault(fold_seen(word), word)
    if len(found) > MAX_AT_ONCE:
        raise UsageError(f"at most {MAX_AT_ONCE} keywords at once; these are {len(found)}")
    return list(found.values())


def spoken(session: Session, image_ids: Collection[int]) -> dict[int, list[Spoken]]:
    """Return what acts say of images, by id, in the order in which the acts began. Images without any are left out."""
    found: dict[int, list[Spoken]] = {}
    for image_id, *what in driver_connection(session).execute(_SPOKEN, {"ids": sorted(image_ids)}):
        found.setdefault(image_id, []).append(Spoken(*what))
    return found


def after(said: Iterable[Spoken]) -> dict[str, Spoken]:
    """Return which words an image has after all acts that speak of it, by fold, in the order in which they came.

    ``said`` is in the order in which the acts began. Of several, the last one counts. An act that is only about images
    that have certain words counts if this one has them by then.
    """
    has: dict[str, Spoken] = {}
    for _, each in groupby(said, key=attrgetter("act_id")):
        of_act = list(each)
        if_any = of_act[0].if_any
        if if_any is None or any(word in has for word in if_any):
            for one in of_act:
                if one.is_present:
                    has[one.fold] = one
                else:
                    has.pop(one.fold, None)
    return has


def settle(session: Session, image_ids: Collection[int]) -> set[int]:
    """Keep anew which keywords images have, after what people said of them changed. Return those that have others now.

    The images are locked.
    """
    if not image_ids:
        return set()
    said = spoken(session, image_ids)
    words_now = [(image_id, [one.word for one in after(said.get(image_id, ())).values()]) for image_id in image_ids]
    rows = [
        {"image_id": image_id, "words": words, "folds": folds_of(words), "tokens": distinct_words(words)}
        for image_id, words in words_now
    ]
    return {image_id for (image_id,) in driver_connection(session).execute(_WRITE, {"rows": json.dumps(rows)})}


def of_images(session: Session, image_ids: Collection[int]) -> dict[int, list[KeywordView]]:
    """Return the keywords that people gave images, with who and when, in the order in which they came."""
    found = {image_id: after(said).values() for image_id, said in spoken(session, image_ids).items()}
    return {
        image_id: [KeywordView(one.word, one.said_by, one.said_at, one.act_id) for one in has]
        for image_id, has in found.items()
        if has
    }


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
        {"folds": [fold_seen(word) for word in words], "after": after, "limit": limit},
    )
    return list(found)


def counts(session: Session, beginning: str, limit: int, offset: int = 0) -> list[KeywordCount]:
    """Return the keywords that people gave, the most frequent first. ``beginning``: only those that begin so."""
    values = {"beginning": without_unseen(beginning), "limit": limit, "offset": offset, "unseen": unseen()}
    rows = session.execute(text(_COUNTS), values)
    return [KeywordCount(row.word, row.images) for row in rows]
