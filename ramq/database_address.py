"""The address of the database, from the form that people and libpq write to that of SQLAlchemy."""

from __future__ import annotations

import re
from urllib.parse import quote

_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg"}
_SERVER = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:,]*)(?::(?P<port>\d{1,5}))?")


def for_sqlalchemy(url: str) -> str:
    """Return ``url`` as ``postgresql+psycopg://…``.

    libpq takes several servers, ``postgresql://user@host1:5432,host2:5432/name?target_session_attrs=read-write``, and
    connects to the first that answers and is as wanted. SQLAlchemy knows these only as parameters.

    Raises:
        ValueError: it is not an address of PostgreSQL. The message says what to write.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator:
        raise ValueError("must start with postgresql://")
    authority, path, query = re.match(r"([^/?]*)(?:/([^?]*))?(?:\?(.*))?", rest, re.DOTALL).groups("")  # type: ignore[union-attr]  # matches any text
    login, at, servers = authority.rpartition("@")
    found = [_SERVER.fullmatch(server) for server in servers.split(",")]
    if None in found:
        raise ValueError(
            "the server must be host or host:port; write a comma between several, and %2F for / in a password"
        )
    places = [(match["host"].strip("[]"), match["port"] or "") for match in found if match]
    if len(places) == 1:
        return f"postgresql+psycopg://{rest}"
    hosts, ports = (quote(",".join(part), safe=",:") for part in zip(*places, strict=True))
    also = f"&{query}" if query else ""
    return f"postgresql+psycopg://{login}{at}/{path}?host={hosts}&port={ports}{also}"
