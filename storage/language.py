"""The query language: what a query's text says, as a tree, before anything in it was looked up.

``beach (dog OR cat) -people archive:holiday score:dog>0.8 after:2024-01-01``
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FieldName = Literal["archive", "job", "prefix", "after", "before", "larger", "smaller"]


@dataclass(frozen=True, slots=True)
class TagTerm:
    """A tag by name (either language) or id; ``above`` is a threshold of its own, in 0..1.

    ``at`` is the character where it stands, for messages; two terms that differ only in it are equal.
    """

    name: str
    above: float | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """A filter by a fact about the image: ``archive:holiday``, ``after:2024-01-01``, ``larger:2MB``."""

    name: FieldName
    value: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part does not hold."""

    part: Expression


Expression = TagTerm | FieldTerm | AllOf | AnyOf | NotOf


@dataclass(frozen=True, slots=True)
class Parsed:
    """A query taken apart.

    Attributes:
        text: the free words, which rank; None when there are none.
        where: what an image must meet; None when everything may be found.
        like: the image to be similar to.
        generation: the generation to be searched instead of the one that serves.
    """

    text: str | None = None
    where: Expression | None = None
    like: int | None = None
    generation: int | None = None
