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
