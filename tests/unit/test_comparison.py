"""Two generations compared: against plain sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from pyroaring import BitMap

from storage.results.generation_views import GenerationView
from storage.results.tags import Names
from storage.search.comparison import Side, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.rows import Rows


@dataclass
class Columns:
    """The columns that a comparison looks at, from plain dictionaries."""

    ids: NDArray[np.int64]
    archives: NDArray[np.int32]
    scores: list[dict[int, int]]
    names: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tags(self) -> Columns:
        return self

    @property
    def keys(self) -> Columns:
        return self

    def above(self, tag_id: int, units: int) -> BitMap:
        return BitMap([n for n, scores in enumerate(self.scores) if scores.get(tag_id, 0) > units])

    def below(self, prefix: bytes) -> NDArray[np.uint32]:
        return np.array([n for n, name in enumerate(self.names) if name.encode().startswith(prefix)], dtype=np.uint32)


@dataclass
class Part:
    columns: Columns
    live: BitMap | None

    @property
    def rows(self) -> Rows:
        return cast("Rows", self.columns)


@dataclass
class Made:
    """A made-up generation: what each image has, and the parts that say so."""

    id: int
    tags: tuple[str, ...]
    images: dict[int, dict[int, int]] = field(default_factory=dict)
    archives: dict[int, int] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        return Names(self.id, self.tags, (None,) * len(self.tags), (0.5,) * len(self.tags))

    def view(self) -> GenerationView:
        now = datetime(2024, 1, 1, tzinfo=UTC)
        return GenerationView(self.id, "lite", "", "", "", 3, "made up", len(self.tags), False, now, None)

    def assigned(self, name: str) -> set[int]:
        numbers = {n for n, tag in enumerate(self.tags) if tag.lower() == name}
        return {image for image, scores in self.images.items() if any(scores.get(n, 0) > 5000 for n in numbers)}

    def side(self, rng: np.random.Generator, within: tuple[int, str] | None = None) -> Side:
        """In three parts, one of which has rows that do not count any more."""
        ids = np.array(sorted(self.images))
        home = rng.integers(0, 3, len(ids))
        parts = []
        for number in range(3):
            live = ids[home == number]
            dead = ids[home == (number + 1) % 3][:5] if number == 0 else np.empty(0, dtype=np.int64)
            every = np.sort(np.concatenate([live, dead])).astype(np.int64)
            columns = Columns(
                every,
                np.array([self.archives[i] for i in every], dtype=np.int32),
                [{0: 9999} if i in dead else self.images[i] for i in every.tolist()],
                [f"{i % 2}/{i}" for i in every],
            )
            is_live = BitMap(np.flatnonzero(~np.isin(every, dead)).tolist())
            parts.append(Part(columns, is_live if number == 0 else None))
        return Side(self.view(), parts, self.names, within)


def made_up(rng: np.random.Generator) -> tuple[Made, Made]:
    a = Made(1, ("Dog", "cat", "sea", "dog", "only here"))
    b = Made(2, ("sea", "DOG", "cat", "only there"))
    for image in range(1, 200):
        for made in (a, b):
            if rng.random() < 0.7:
                tags = rng.permutation(len(made.tags))[: rng.integers(0, 4)]
                made.images[image] = {int(tag): int(rng.integers(1000, 9999)) for tag in tags}
            made.archives[image] = image % 3
    return a, b


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("within", [None, (1, ""), (2, "0/")])
def test_what_is_kept_gained_and_lost_is_what_plain_sets_say(seed: int, within: tuple[int, str] | None) -> None:
    rng = np.random.default_rng(seed)
    a, b = made_up(rng)
    found = compare(a.side(rng, within), b.side(rng, within), limit=100, samples=3)

    def counts(image: int) -> bool:
        return within is None or (image % 3 == within[0] and f"{image % 2}/".startswith(within[1]))

    in_a, in_b = ({image for image in made.images if counts(image)} for made in (a, b))
    both = in_a & in_b
    assert (found.images_a, found.images_b, found.images_both) == (len(in_a), len(in_b), len(both))
    changed: set[int] = set()
    told = {change.name.lower(): change for change in found.tags}
    for name in ("dog", "cat", "sea", "only here", "only there"):
        has_a, has_b = a.assigned(name) & in_a, b.assigned(name) & in_b
        gained, lost = (has_b - has_a) & both, (has_a - has_b) & both
        changed |= gained | lost
        change = told.pop(name)
        assert (change.count_a, change.count_b) == (len(has_a), len(has_b))
        assert (change.kept, change.gained, change.lost) == (len(has_a & has_b & both), len(gained), len(lost))
        assert change.gained_images == sorted(gained)[:3]
        assert change.lost_images == sorted(lost)[:3]
        assert (change.is_in_a, change.is_in_b) == (name != "only there", name != "only here")
    assert told == {}
    assert found.images_changed == len(changed)
    moved = [change.gained + change.lost for change in found.tags]
    assert moved == sorted(moved, reverse=True)


def test_only_the_tags_that_change_most_are_told_of() -> None:
    rng = np.random.default_rng(0)
    a, b = made_up(rng)
    every: list[Any] = compare(a.side(rng), b.side(rng), limit=100, samples=0).tags
    assert compare(a.side(rng), b.side(rng), limit=2, samples=0).tags == every[:2]


def test_generations_without_a_common_image_have_nothing_gained_or_lost() -> None:
    rng = np.random.default_rng(0)
    a = Made(1, ("dog",), {1: {0: 9000}}, {1: 1})
    b = Made(2, ("dog",), {2: {0: 9000}}, {2: 1})
    found = compare(a.side(rng), b.side(rng), limit=5, samples=5)
    assert (found.images_both, found.images_changed) == (0, 0)
    [change] = found.tags
    assert (change.count_a, change.count_b, change.kept, change.gained, change.lost) == (1, 1, 0, 0, 0)


def test_an_empty_generation_can_be_compared() -> None:
    rng = np.random.default_rng(0)
    empty = Made(1, ("dog",))
    found = compare(empty.side(rng), empty.side(rng), limit=5, samples=5)
    assert (found.images_a, found.tags) == (0, [])
