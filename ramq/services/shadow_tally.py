"""What comparisons with the shadow have found: how often both indexes agree, and how long each takes."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Literal, get_args
from uuid import uuid4

import numpy as np

from storage.index.manifest import DamagedError

if TYPE_CHECKING:
    from storage.index.file_storage import FileStorage

KEPT = 1_000
"""Comparisons that a process keeps one by one, the newest ones. All are counted."""

FORGET_SECONDS = 7 * 24 * 3600.0
"""After this time without a further comparison, what a process found is deleted."""

FIRST = 10
"""So many hits of a page are compared."""

Outcome = Literal["same", "different", "changed", "refused", "unready", "failed", "dropped"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""``same``, ``different``: both answered. ``changed``: the archive changed in between. ``refused``: the shadow cannot
answer such a search. ``unready``: it lacks too much. ``failed``: it did not answer. ``dropped``: too much was waiting,
or the shadow had just failed."""

_FOLDER = "compared"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One search, asked of both indexes.

    Attributes:
        kind: ``text`` or ``image``: by vector; ``tags``: anything else.
        agreement: share of the first ten hits that both have, 0 to 1.
        score_difference: greatest difference of the scores of a hit in both.
        is_total_same: whether both counted as many matches.
        index_seconds: how long the index took, with the content of the hits.
        shadow_seconds: likewise.
    """

    kind: str
    agreement: float
    score_difference: float
    is_total_same: bool
    index_seconds: float
    shadow_seconds: float

    @property
    def is_same(self) -> bool:
        """Whether both found the same."""
        return self.agreement == 1.0 and self.is_total_same


@dataclass(frozen=True, slots=True)
class Summary:
    """What was compared so far.

    Attributes:
        outcomes: how many searches had each outcome.
        kinds: for each kind of search, figures of the newest comparisons: shares from 0 to 1, and milliseconds.
    """

    outcomes: dict[str, int]
    kinds: dict[str, dict[str, float]]


@dataclass
class Tally:
    """Counts comparisons. Thread-safe.

    Attributes:
        outcomes: how many searches had each outcome.
        recent: the newest comparisons in which both answered.
        sums: over all of these: ``agreement``, ``index_seconds``, ``shadow_seconds``.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    recent: deque[Comparison] = field(default_factory=lambda: deque(maxlen=KEPT))
    sums: Counter[str] = field(default_factory=Counter)
    _name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}.json")
    _lock: Lock = field(default_factory=Lock)

    def count(self, outcome: Outcome, comparison: Comparison | None = None) -> None:
        """Count a search, and how both answered it."""
        with self._lock:
            self.outcomes[outcome] += 1
            if comparison is not None:
                self.recent.append(comparison)
                for name in ("agreement", "index_seconds", "shadow_seconds"):
                    self.sums[name] += getattr(comparison, name)

    @property
    def compared(self) -> int:
        """How many searches both answered, of the same state of the archive."""
        return self.outcomes["same"] + self.outcomes["different"]

    def write(self, place: FileStorage) -> None:
        """Write this beside the shadow, where ``read`` finds it. Delete what is long out of date."""
        with self._lock:
            about = {"outcomes": self.outcomes, "sums": self.sums, "recent": [asdict(each) for each in self.recent]}
            data = json.dumps(about).encode()
        place.put(f"{_FOLDER}/{self._name}", data)
        for name, age in place.names(_FOLDER).items():
            if age > FORGET_SECONDS:
                place.delete(f"{_FOLDER}/{name}")

    @classmethod
    def read(cls, place: FileStorage) -> Tally:
        """Return what all processes wrote, together."""
        found = cls(recent=deque())
        for name in place.names(_FOLDER):
            try:
                about = json.loads(place.read(f"{_FOLDER}/{name}"))
                recent = [Comparison(**each) for each in about["recent"]]
            except (DamagedError, ValueError, KeyError, TypeError):
                continue  # deleted meanwhile, or of another version
            found.outcomes.update(about["outcomes"])
            found.sums.update(about["sums"])
            found.recent.extend(recent)
        return found

    def summary(self) -> Summary:
        """Return the figures that people want."""
        recent = list(self.recent)
        kinds = sorted({each.kind for each in recent})
        return Summary(
            {name: self.outcomes[name] for name in OUTCOMES},
            {kind: _figures([each for each in recent if each.kind == kind]) for kind in kinds},
        )


def _figures(recent: list[Comparison]) -> dict[str, float]:
    found = {
        "compared": len(recent),
        "agreement": round(float(np.mean([each.agreement for each in recent])), 4),
        "lowest_agreement": round(min(each.agreement for each in recent), 4),
        "same_total": round(sum(each.is_total_same for each in recent) / len(recent), 4),
        "score_difference": round(max(each.score_difference for each in recent), 6),
    }
    for name in ("index", "shadow"):
        times = [getattr(each, f"{name}_seconds") * 1000 for each in recent]
        found |= {f"{name}_p{percent}_ms": round(float(np.percentile(times, percent)), 2) for percent in (50, 95)}
    return found
