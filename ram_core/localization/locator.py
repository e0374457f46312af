"""From pictures and tags to regions: a detector, the choice among its boxes, and a segmenter if there is one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageOps

from ram_core.errors import ModelError
from ram_core.localization.boxes import Kinds, Rules, choose
from ram_core.localization.results import Localization, LocatorSpec, Region
from ram_core.transforms import LocatingTransform

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.localization.boxes import Kept
    from ram_core.localization.parts import Detector, Mask, Segmenter


class Locator:
    """A loaded locator. One thread at a time, except for ``preprocessing``.

    Args:
        detector: finds boxes.
        segmenter: finds the pixels of boxes; None: no masks.
        rules: which boxes are kept.
        kinds: tag -> more general tags. Of a tag and a more general one at the same place only the former stays.
    """

    def __init__(
        self,
        detector: Detector,
        segmenter: Segmenter | None = None,
        rules: Rules | None = None,
        kinds: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._detector = detector
        self._segmenter = segmenter
        self._rules = rules or Rules()
        self._kinds = Kinds(kinds or {})
        parts = (detector, *(() if segmenter is None else (segmenter,)))
        self._preprocessing = LocatingTransform(tuple(part.sides for part in parts))
        hashes = "".join(part.spec.weights_sha256 for part in parts)
        methods = "; ".join(part.spec.method for part in parts)
        self._spec = LocatorSpec(
            "+".join(part.spec.model for part in parts),
            hashlib.sha256(hashes.encode()).hexdigest(),
            f"{self._preprocessing.name}; {methods}; {self._rules.name}{self._kinds.name}",
        )

    @property
    def spec(self) -> LocatorSpec:
        """The specification of this locator's generation."""
        return self._spec

    @property
    def preprocessing(self) -> LocatingTransform:
        """The transform from a decoded, upright image to pixels."""
        return self._preprocessing

    def refused(self, tags: Sequence[str]) -> dict[str, str]:
        """Return the tags that cannot be looked for, each with the reason. ``locate`` raises for them."""
        return self._detector.refused(tags)

    def locate(
        self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]], *, masks: bool = True
    ) -> list[Localization]:
        """Find tags in pictures.

        Args:
            pictures: (H, W, 3) uint8 RGB each, upright, of any sizes; best made by ``preprocessing``.
            tags: the tags to look for in each picture; a tag given twice counts once.
            masks: also find the pixels of each region, if there is a segmenter.

        Returns:
            One localization for each picture. It does not depend on the other pictures.

        Raises:
            ModelError: there are not as many lists of tags as pictures.
            VocabularyError: a tag cannot be looked for; the message names it.
            ImageError: pixels have another shape or type.
            CheckpointError: a network computes values that are not finite.
        """
        if len(pictures) != len(tags):
            raise ModelError(f"{len(pictures)} pictures, but tags for {len(tags)}; give one list of tags per picture")
        wanted = [list(dict.fromkeys(own)) for own in tags]
        threshold = self._detector.threshold if self._rules.threshold is None else self._rules.threshold
        found = self._detector.detect(pictures, wanted, threshold)
        kept = [choose(each, own, self._rules, self._kinds) for each, own in zip(found, wanted, strict=True)]
        filled: Sequence[Sequence[Mask | None]] = [[None] * len(each.scores) for each in kept]
        if masks and self._segmenter is not None:
            filled = self._segmenter.segment(pictures, [each.boxes for each in kept])
        return [_localization(*each) for each in zip(kept, wanted, filled, strict=True)]

    def locate_images(
        self, images: Sequence[Image.Image], tags: Sequence[Sequence[str]], *, masks: bool = True
    ) -> list[Localization]:
        """Find tags in images of any size and mode. They are turned upright as their EXIF data say."""
        upright = [ImageOps.exif_transpose(image) for image in images]
        return self.locate([self._preprocessing(image) for image in upright], tags, masks=masks)


def _localization(kept: Kept, tags: Sequence[str], masks: Sequence[Mask | None]) -> Localization:
    regions = []
    rows = zip(kept.boxes.astype(np.float64).round(6).tolist(), kept.tags, kept.scores.tolist(), masks, strict=True)
    for (left, top, right, bottom), tag, score, mask in rows:
        filled = (None, None) if mask is None else (mask.rle, mask.quality)
        regions.append(Region(tags[int(tag)], score, (left, top, right, bottom), *filled))
    return Localization(tuple(regions), kept.is_cut)
