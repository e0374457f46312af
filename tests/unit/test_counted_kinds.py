"""Regions of kinds are added up: a poodle and a mongrel are two dogs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ram_core.hierarchy.wordnet import shipped_hierarchy
from storage.index.condition import OneOf
from storage.results import policies
from storage.results.policy import NamePolicy
from storage.results.region_search import Counted
from storage.results.tags import Names
from storage.search.counted_regions import CountedRegions, groups_of
from storage.search.language import RegionTerm, parse

NAMES = Names(
    1, ("Dog", "poodle", "beagle", "oak"), (None,) * 4, (0.5,) * 4, (("hound",), (), (), ()), shipped_hierarchy()
)
REGIONS = {
    "dog": ([1, 3], [1, 2], [100, 200]),
    "poodle": ([1, 2], [1, 1], [50, 60]),
    "hound": ([5], [2], [10]),
}


class Kept:
    """Regions that were read."""

    def images(self, _session: object, names: list[str]) -> dict[str, Counted]:
        empty: tuple[list[int], ...] = ([], [], [])
        return {name: Counted(*map(np.array, REGIONS.get(name, empty))) for name in names}


@pytest.fixture(autouse=True)
def _without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "by_name", lambda _: NamePolicy())


def found(query: str) -> list[int]:
    term = parse(query).where
    assert isinstance(term, RegionTerm)
    session: Any = None
    kept: Any = Kept()
    condition = CountedRegions(session, kept).condition(term, groups_of(term, NAMES))
    assert isinstance(condition, OneOf)
    return condition.image_ids.tolist()


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("count:dog>=1", [1, 2, 3]),
        ("count:dog>=2", [1, 3]),
        ("count:dog=1", [2]),
        ("count:poodle>=1", [1, 2]),
        ("count:hound>=2", [1, 3, 5]),  # a synonym of the dog, and what was located under this name
        ("count:canine>=2", [1, 3]),  # of no tag, but above poodles and dogs
    ],
)
def test_regions_of_kinds_count_for_a_tag(query: str, ids: list[int]) -> None:
    assert found(query) == ids


def test_a_name_stands_for_its_tag_and_its_kinds() -> None:
    (group,) = groups_of(RegionTerm("count", "DOG", ">=", 1), NAMES)
    assert set(group) == {"dog", "poodle", "beagle"}
    assert groups_of(RegionTerm("count", "no such", ">=", 1), NAMES) == [("no such",)]
