"""The stage ``locate``: boxes, and masks, of tags in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ram_core.localization.results import Localization
from storage.datasets import sought
from storage.errors import UsageError
from storage.results import assigned, regions
from storage.results.generations import StageSpec
from storage.results.masks import Mask
from storage.results.region_views import FoundRegion, RegionsRow
from workers.messages import STAGE_MODELS
from workers.stages.base import StageKind, StageOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.localization.locator import Locator
    from ram_core.localization.results import Region
    from ram_core.recognition import Preprocessing
    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance

NAME = "locate"
NOTHING = Localization((), is_cut=False)
_SHOWN = 60  # characters of a tag in a message


class Asked(NamedTuple):
    """The tags to look for in an image. ``by_name``: a person asked for these; else they are those that it has."""

    tags: tuple[str, ...]
    by_name: bool


class LocateStage:
    """Finds regions of tags."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator

    @property
    def spec(self) -> StageSpec:
        """What makes its results."""
        spec = self._locator.spec
        return StageSpec(NAME, spec.fingerprint, spec.model, spec.weights_sha256, spec.preprocessing)

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to what the networks take."""
        return self._locator.preprocessing

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:
        """Return the tags that the job asks for, or else those that each image has: in a data set, or in search."""
        if named := shard.options.get("tags"):
            return dict.fromkeys(shard.image_ids, Asked(tuple(named), by_name=True))
        if version_id := shard.options.get(sought.OPTION):
            found = sought.names(session, version_id, shard.image_ids)
        else:
            found = assigned.names(session, shard.image_ids)
        return {image_id: Asked(names, by_name=False) for image_id, names in found.items()}

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ``UsageError`` if a tag that a job asks for cannot be looked for."""
        for tag, reason in self._locator.refused(options.get("tags", ())).items():
            named = tag if len(tag) <= _SHOWN else f"{tag[:_SHOWN]}…"
            raise UsageError(
                f"{self._locator.spec.model} cannot look for the tag {named!r}, because it {reason}: use other words, "
                "or another detector (`ramq models list`)"
            )

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Asked | None]) -> list[Any]:
        """Return a ``Localization`` for each (H, W, 3) picture. An image without tags has no regions."""
        wanted = [self._tags(each) for each in asked]
        sought = [number for number, tags in enumerate(wanted) if tags]
        found: list[Localization] = [NOTHING] * len(pictures)
        if sought:
            located = self._locator.locate([pictures[i] for i in sought], [wanted[i] for i in sought])
            for number, localization in zip(sought, located, strict=True):
                found[number] = localization
        return found

    def _tags(self, asked: Asked | None) -> tuple[str, ...]:
        if asked is None:
            return ()
        # A tag of the vocabulary that is too long for the detector is left out. One that a person named ends the job
        # before it comes here: see `check`.
        refused = () if asked.by_name else self._locator.refused(asked.tags)
        return tuple(tag for tag in asked.tags if tag not in refused)

    def write(self, session: Session, results: Sequence[tuple[int, str, Localization]], provenance: Provenance) -> None:
        """Store regions."""
        rows = [
            RegionsRow(image_id, version, [_found(region) for region in found.regions], found.is_cut)
            for image_id, version, found in results
        ]
        regions.write_regions(session, rows, provenance)


def _found(region: Region) -> FoundRegion:
    rle = region.mask
    mask = None if rle is None else Mask(rle.height, rle.width, rle.counts).to_bytes()
    return FoundRegion(region.tag, region.score, region.box, mask, region.mask_quality)


def _load(model: str, options: StageOptions) -> LocateStage:
    from ram_core.hierarchy.wordnet import shipped_hierarchy  # noqa: PLC0415
    from ram_core.localization import load_locator  # noqa: PLC0415  (torch and transformers)

    detector, _, segmenter = model.partition("+")
    return LocateStage(
        load_locator(
            detector,
            segmenter or None,
            device=options.device,
            models_dir=options.models_dir,
            kinds=shipped_hierarchy().more_general(),
            precision=options.locate_precision,
        )
    )


KIND = StageKind(NAME, STAGE_MODELS[NAME], batch_size=4, is_installed=lambda: True, load=_load, check=LocateStage.check)
