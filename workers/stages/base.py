"""What the pipeline asks of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.recognition import Preprocessing
    from storage.ledger.claims import ClaimedShard
    from storage.results.generations import StageSpec
    from storage.results.records import Provenance


@dataclass(frozen=True, slots=True)
class StageOptions:
    """Settings of the stages.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        models_dir: folder of checkpoints.
        mask_text: kinds of text that are masked before they are stored; see ``ram_core.reading.sensitive``.
        mask_pattern: a regular expression; what it matches is masked too.
        locate_precision: number format of what locates tags; see ``ram_core.localization.load_detector``.
        look_precision: number format of what makes vectors of spaces; see ``ram_core.spaces.load_image_encoder``.
        cache_dir: folder of what can be computed again, such as embeddings of tags; None: under the user's own.
    """

    device: str
    models_dir: Path
    mask_text: tuple[str, ...] = ()
    mask_pattern: str | None = None
    locate_precision: str = "auto"
    look_precision: str = "auto"
    cache_dir: Path | None = None


def take_anything(_model: Any, _options: Mapping[str, Any]) -> None:
    """Accept any options of a job."""


class StageModel(Protocol):
    """The loaded model of a stage. One thread at a time; ``preprocessing`` may be used from any thread."""

    @property
    def spec(self) -> StageSpec:
        """What makes its results."""

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to what ``run`` takes."""

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:
        """Return what to look for in the images of a shard, by image id. Left out: nothing in particular."""

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Any]) -> list[Any]:
        """Return a result for each picture. It may raise anything: the pipeline finds the picture at fault.

        ``asked`` has what to look for in each picture, or None.
        """

    def write(self, session: Session, results: Sequence[tuple[int, str, Any]], provenance: Provenance) -> None:
        """Store results: (image id, version, result). The images are locked. Storing the same twice changes nothing."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage that workers may do.

    Attributes:
        name: its name for people, for example ``text``.
        models: names of its models.
        batch_size: number of images in a full batch. A batch must take much less than ``leases.STUCK_SECONDS``.
        is_installed: whether this machine has the packages that it needs.
        load: loads one of the models. Raises errors of ``ram_core.errors``.
        check: looks at the options of a new job. Raises ``UsageError``, which ends the job, if no worker can do what
            they ask of this model.
    """

    name: str
    models: tuple[str, ...]
    batch_size: int
    is_installed: Callable[[], bool]
    load: Callable[[str, StageOptions], StageModel]
    check: Callable[[Any, Mapping[str, Any]], None] = take_anything
