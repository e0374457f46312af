"""Rules about tags are of the names as searches compare them, in every script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.results import policies
from storage.results.tags import Names

if TYPE_CHECKING:
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


@pytest.mark.parametrize("name", ["Cat", "ÉMEU", "ΟΔΟΣ", "İzmir"])
def test_a_rule_holds_for_names_that_postgres_writes_small_in_another_way(ledger: Ledger, name: str) -> None:
    """PostgreSQL knows no final sigma, and in some locales no letters but those of ASCII."""
    names = Names(1, (name,), (None,), (0.5,))
    with unit_of_work(ledger.engine) as session:
        policies.put(session, name, "deny", None, "ann")
        assert policies.load(session, names).denied(ledger.archive.id) == {0}
        assert policies.clear(session, name, None)
        assert policies.load(session, names).is_empty


def test_a_tag_that_is_no_thing_still_counts_and_can_be_denied_too(ledger: Ledger) -> None:
    names = Names(1, ("Sunny", "cat"), (None, None), (0.5, 0.5))
    here = ledger.archive.id
    with unit_of_work(ledger.engine) as session:
        policies.put(session, "Sunny", "no_thing", None, "ann")
        policies.put(session, "Sunny", "no_thing", None, "ann")
        assert policies.load(session, names).is_empty
        policies.put(session, "sunny", "deny", None, "ann")
        policies.put(session, "sunny", "allow", None, "ann")
        policies.put(session, "cat", "no_thing", here, "ann")
        assert policies.load(session, names).denied(here) == {1}
        assert [(rule.name, rule.kind) for rule in policies.views(session)] == [
            ("sunny", "allow"),
            ("sunny", "no_thing"),
            ("cat", "no_thing"),
        ]
        assert policies.no_things(session) == {None: {"sunny"}, here: {"cat"}}
        assert policies.clear(session, "Sunny", None, "no_thing")
        assert not policies.clear(session, "Sunny", None, "no_thing")
        assert policies.load(session, names).denied(here) == {1}
        assert policies.clear(session, "Sunny", None)
