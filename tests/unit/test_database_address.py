"""Addresses of the database, with one server and with several."""

import pytest
from sqlalchemy import create_engine, make_url

from ramq.database_address import for_sqlalchemy


def arguments(url: str) -> dict[str, object]:
    """What psycopg is told."""
    address = make_url(for_sqlalchemy(url))
    found = create_engine(address).dialect.create_connect_args(address)[1]
    return {name: found[name] for name in ("host", "port", "target_session_attrs") if name in found}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ramq:secret@db:5433/ramq", {"host": "db", "port": 5433}),
        (
            "postgresql://ramq:a,b@one:5432,two:5433/ramq?target_session_attrs=read-write",
            {"host": "one,two", "port": "5432,5433", "target_session_attrs": "read-write"},
        ),
        ("postgres://one,two:5433/ramq", {"host": "one,two", "port": ",5433"}),
        ("postgresql://[::1]:5432,two/ramq", {"host": "::1,two", "port": "5432,"}),
        ("postgresql://ramq@/ramq?host=/run/sockets&port=5432", {"host": "/run/sockets", "port": "5432"}),
    ],
)
def test_several_servers_are_told_to_libpq(url: str, told: dict[str, object]) -> None:
    assert arguments(url) == told


def test_user_password_and_database_stay_with_several_servers() -> None:
    address = make_url(for_sqlalchemy("postgresql://ramq:s%2Fcret@one:1,two:2/archive"))
    assert (address.username, address.password, address.database) == ("ramq", "s/cret", "archive")


@pytest.mark.parametrize(
    "url", ["mysql://db/ramq", "postgresql:db", "postgresql://db:port/ramq", "postgresql://u:a/b@db"]
)
def test_what_is_no_address_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match=r"must (start with postgresql://|be host or host:port)"):
        for_sqlalchemy(url)
