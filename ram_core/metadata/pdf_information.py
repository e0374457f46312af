"""The document information of PDF files: title, author, subject, keywords and date."""

from __future__ import annotations

import re

from ram_core.metadata.facts import MOST_KEYWORD, MOST_KEYWORDS, MOST_TEXT, FileFacts, bounded
from ram_core.metadata.values import moment, text
from ram_core.opening import pdf

_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z|[+-]\d\d'\d\d'?)?")


def facts(body: memoryview) -> FileFacts:
    """Return what the document information of a PDF file says (ISO 32000, 14.3.3)."""
    with pdf.opened(body) as (_, document):
        told = document.get_metadata_dict()
    date = _DATE.match(told.get("CreationDate", ""))
    taken = moment("{}:{}:{} {}:{}:{}{}".format(*date.groups("00")[:6], _zone(date[7]))) if date else None
    keywords = (text(word, MOST_KEYWORD) for word in re.split("[,;]", told.get("Keywords", "")))
    return bounded(
        taken_at=taken[0] if taken else None,
        taken_offset=taken[1] if taken else None,
        title=text(told.get("Title"), MOST_TEXT),
        description=text(told.get("Subject"), MOST_TEXT),
        creator=text(told.get("Author"), MOST_TEXT),
        keywords=tuple(dict.fromkeys(word for word in keywords if word))[:MOST_KEYWORDS],
    )


def _zone(written: str | None) -> str:
    """Return a zone such as ``+01'00'`` as ``+01:00``."""
    return (written or "").rstrip("'").replace("'", ":")
