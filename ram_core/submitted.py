"""A batch that was given to a model whose results are read later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from ram_core.modeling.ram import Tagged
    from ram_core.modeling.runner import Runner, Started
    from ram_core.modeling.uploads import Fetched
    from ram_core.recognition import Prediction


@dataclass(frozen=True, slots=True)
class Submitted:
    """What ``NetworkRecognizer.submit`` returns: a ``ram_core.recognition.Pending``.

    Attributes:
        runner: what computes.
        started: what it has begun.
        arriving: the result on its way to the host: scores and vectors, whether they are finite, parts of features.
        fetch: begins to copy another result to the host, without whether it is finite.
        read: makes predictions of a result and what has arrived of it, without whether it is finite.
    """

    runner: Runner[Any]
    started: Started
    arriving: Fetched
    fetch: Callable[[Tagged], Fetched]
    read: Callable[[Tagged, Sequence[torch.Tensor]], list[Prediction]]

    def is_done(self) -> bool:
        """Return whether ``result`` does not wait."""
        return self.arriving.is_here()

    def result(self) -> list[Prediction]:
        """Wait, and return one prediction per image.

        Raises:
            CheckpointError: the network computes values that are not finite, even in the widest format.
        """
        rows, finite, *parts = self.arriving.wait()
        tagged = self.runner.finish(self.started, finite)
        if tagged is not self.started.tagged:  # some images were computed again
            rows, *parts = self.fetch(tagged).wait()
        return self.read(tagged, [rows, *parts])
