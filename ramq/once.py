"""Parts of an object that are created at their first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")


class _Once(Generic[Made]):
    """The descriptor that ``once`` returns."""

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, services: Any, _owner: type) -> Made:
        with services._lock:  # noqa: SLF001  (this descriptor is a part of that class)
            if self._make.__name__ not in services._made:  # noqa: SLF001
                services._made[self._make.__name__] = self._make(services)  # noqa: SLF001
            return services._made[self._make.__name__]  # type: ignore[no-any-return]  # noqa: SLF001


def once(make: Callable[[Any], Made]) -> _Once[Made]:
    """Create a part of the services at its first use, from any thread, and keep it."""
    return _Once(make)
