"""Queues of a device that does everything as late as it may, to find what relies on luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ram_core.modeling.uploads import Mark

T = TypeVar("T")


@dataclass
class LateMark:
    queue: LateQueue
    place: int

    def is_past(self) -> bool:
        return self.queue.done >= self.place

    def wait(self) -> None:
        self.queue.go_to(self.place)


@dataclass
class LateQueue:
    """Copies later: only what somebody waits for is done. What computes (``is_eager``) is done when it is given."""

    name: str
    log: list[str]
    is_eager: bool = False
    done: int = 0
    works: list[Callable[[], object]] = field(default_factory=list)

    def run(self, work: Callable[[], T]) -> T:
        result: list[T] = []

        def noted() -> None:
            self.log.append(f"{self.name} {len(self.log)}")
            result.append(work())

        self.works.append(noted)
        if not self.is_eager:
            return None  # type: ignore[return-value]  # a copy returns nothing that is used
        self.go_to(len(self.works))
        return result[0]

    def mark(self) -> LateMark:
        return LateMark(self, len(self.works))

    def wait_for(self, mark: Mark) -> None:
        self.works.append(mark.wait)
        self.log.append(f"{self.name} waits")

    def go_to(self, place: int) -> None:
        while self.done < place:
            self.done += 1
            self.works[self.done - 1]()
