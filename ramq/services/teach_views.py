"""What teaching tells: see ``ramq.services.teaching``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.teaching.heads import Method
    from ram_core.teaching.measures import Measure
    from storage.ledger.views import JobView


@dataclass(frozen=True, slots=True)
class Way:
    """A way to score the tag that was tried, and what it does on held-out pictures."""

    method: Method
    measure: Measure


@dataclass(frozen=True, slots=True)
class TeachReport:
    """What was learnt of a tag, judged on pictures that were held out.

    Attributes:
        tag: its name.
        is_new: whether no tag had this name. If not, it is mended.
        method: how it is scored: ``head`` (on kept features), ``own+head`` (these and the model's own score),
            ``threshold`` (the model's own score with another threshold), ``description`` (the model, by the name).
        threshold: above which it is assigned.
        asked: the precision that was asked for.
        is_reached: whether a threshold reaches it, by the estimate.
        yes: number of pictures named as being of this kind, corrections included.
        no: number of those named as not being of it.
        left_out: number of pictures that were named and not learnt, since there are more than 1,000 of either kind.
        unnamed: number of random pictures that were taken as not being of it.
        before: what the tag did until now; None: it is new, or its former head was made from these pictures.
        after: what it does now, on the same pictures.
        ways: everything that was tried.
        gain: the part of the average precision that is due to the last half of the pictures; None: too few to tell.
        helps: whether naming more pictures would help.
        advice: one line for people.
        seconds: how long it took.
    """

    tag: str
    is_new: bool
    method: Method
    threshold: float
    asked: float
    is_reached: bool
    yes: int
    no: int
    left_out: int
    unnamed: int
    before: Measure | None
    after: Measure
    ways: tuple[Way, ...]
    gain: float | None
    helps: bool
    advice: str
    seconds: float

    @property
    def gains_nothing(self) -> bool:
        """Whether the tag is as it was before, to two digits of each figure."""
        return self.before is not None and _figures(self.before) == _figures(self.after)


@dataclass(frozen=True, slots=True)
class Taught:
    """The result of teaching.

    Attributes:
        reports: one for each tag.
        from_generation_id: whose images they were taught on.
        vocabulary: name of the new vocabulary; None: nothing was applied.
        jobs: those that give the tags to the recorded images.
        warnings: taught tags that the new generation does not have, and what to do about each.
    """

    reports: list[TeachReport]
    from_generation_id: int
    vocabulary: str | None
    jobs: list[JobView]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ToLabel:
    """An image to label next, and the score of the tag; near the threshold it is least certain."""

    image_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Images to label next, the least certain first, and whether more labels would help."""

    tag: str
    images: list[ToLabel]
    yes: int
    no: int
    helps: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tag to teach, with ids of images that are of this kind, and of others that are not."""

    tag: str
    yes: Sequence[int] = ()
    no: Sequence[int] = ()


def _figures(measure: Measure) -> tuple[float | None, ...]:
    shares = (measure.precision.value, measure.recall.value, measure.average_precision)
    return (*(None if share is None else round(share, 2) for share in shares), measure.images)
