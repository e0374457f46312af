"""What the tables share: names of constraints, types that SQLAlchemy does not know, the unit of scores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import UserDefinedType

SCORE_SCALE = 10_000
"""Scores are stored as whole numbers of 1/10,000. Thresholds then compare exactly."""

KEY_NUMBER = 'hashtextextended({key} COLLATE "C", 0)'
"""In PostgreSQL: a number that stands for a listed key in ``naming``. If two keys share one, a key that is gone may
count as listed, and is not marked as missing."""

PERSON_UNITS = SCORE_SCALE + 1
"""Score of a tag that a person added: above every threshold. Shown as 1. Also a constant in ``corrected_tags``."""

PRECISIONS = ("float32", "float16", "bfloat16", "certified")
"""Number formats of records, which name them by place; add only at the end. ``certified``: computed in bfloat16, and
what came near to a threshold again in float32. So tags are nearly always those of float32."""

HASH_BYTES = 16
"""How much of the SHA-256 of an image's bytes finds equal ones: 128 bits are never the same by chance."""

RECOGNITION = "recognition"
"""The stage that every archive has: tags, captions and vectors. Others are keys of ``results.partitions.TABLES``."""

CORNER_SCALE = 10_000
"""Corners of regions are stored as whole numbers of 1/10,000 of the upright picture's width or height."""


class XID8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id. To PostgreSQL it is not a number: compare it with values cast to ``xid8``."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


class Base(DeclarativeBase):
    """Base of the tables. Gives constraints fixed names, which migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own spelling)
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }
