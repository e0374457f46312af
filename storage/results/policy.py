"""Which tags count in which archive. This is applied when a search is answered, so no record has to be rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Policy:
    """Tags that do not count, by id.

    Attributes:
        elsewhere: in archives without rules of their own.
        within: in archives with rules, by the archive's id; includes the rules for all archives.
    """

    elsewhere: frozenset[int] = frozenset()
    within: Mapping[int, frozenset[int]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether every tag counts everywhere."""
        return not self.elsewhere and not self.within

    def denied(self, archive_id: int) -> frozenset[int]:
        """Return the tags that do not count in an archive."""
        return self.within.get(archive_id, self.elsewhere)

    def counted(
        self, everywhere: NDArray[np.int64], in_archive: Callable[[int], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """Return the number of images of each tag, counting only archives where the tag counts, (T,).

        Args:
            everywhere: (T,) number of images that have it in any archive.
            in_archive: returns the number of images that have it in one archive, (T,).
        """
        rest, total = everywhere.copy(), np.zeros_like(everywhere)
        for archive_id, denied in self.within.items():
            here = in_archive(archive_id)
            rest -= here
            total += _without(here, denied)
        return total + _without(rest, self.elsewhere)


@dataclass(frozen=True, slots=True)
class NameRules:
    """Which names count in one archive: none that is refused and, if any is allowed, only allowed ones."""

    allowed: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether every name counts."""
        return not self.allowed and not self.refused

    def hides(self, name: str) -> bool:
        """Return whether a name does not count."""
        return name in self.refused or (bool(self.allowed) and name not in self.allowed)


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """Which names count, as ``Policy`` says it of ids: in archives without rules of their own, and within others."""

    elsewhere: NameRules = field(default_factory=NameRules)
    within: Mapping[int, NameRules] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether every name counts everywhere."""
        return self == NamePolicy()

    def of(self, archive_id: int) -> NameRules:
        """Return the rules in an archive."""
        return self.within.get(archive_id, self.elsewhere)


def name_policy_of(rules: Sequence[tuple[int | None, str, str]]) -> NamePolicy:
    """Return the policy for names as rules write them. ``rules``: as ``policy_of`` takes them."""

    def named(archive_ids: set[int | None]) -> NameRules:
        told = [(name, kind) for archive_id, name, kind in rules if archive_id in archive_ids]
        return NameRules(
            frozenset(name for name, kind in told if kind == "allow"),
            frozenset(name for name, kind in told if kind == "deny"),
        )

    own = {archive_id for archive_id, _, _ in rules if archive_id is not None}
    return NamePolicy(named({None}), {archive_id: named({None, archive_id}) for archive_id in sorted(own)})


def policy_of(rules: Sequence[tuple[int | None, str, str]], names: Sequence[str]) -> Policy:
    """Return the policy for a vocabulary from its rules.

    If any name is allowed, for all archives or for one, only allowed names count there. A denied name never counts.

    Args:
        rules: (archive id or None for all, name in lower case, ``allow`` or ``deny``).
        names: names of the tags, by id.
    """
    if not rules:
        return Policy()
    lowered = [name.lower() for name in names]

    def denied(of: NameRules) -> frozenset[int]:
        return frozenset(tag_id for tag_id, name in enumerate(lowered) if of.hides(name))

    by_name = name_policy_of(rules)
    return Policy(denied(by_name.elsewhere), {id_: denied(of) for id_, of in by_name.within.items()})


def _without(counts: NDArray[np.int64], denied: frozenset[int]) -> NDArray[np.int64]:
    left = counts.copy()
    left[list(denied)] = 0
    return left
