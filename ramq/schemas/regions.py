"""The JSON of the regions of tags in images."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.readings import Fraction
from ramq.schemas.views import FromView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.region_views import RegionCorrectionView, RegionsView

BOX = "left, top, right, bottom as fractions of the upright image's width and height"


class MaskOut(BaseModel):
    """A mask in COCO's run-length encoding, at the size of the picture that was segmented."""

    size: list[int] = Field(description="height and width of the mask in pixels")
    counts: str = Field(description="the runs, as COCO's text")


class RegionOut(BaseModel):
    """A region of a tag in an image."""

    number: int = Field(description="its place in the list, from 1")
    tag: str
    score: float = Field(description="0..1; 1 for a region that a person drew")
    box: list[float] = Field(description=BOX)
    mask: MaskOut | None
    mask_quality: float | None = Field(description="0..1, as the segmenter estimates it; null without a mask")
    correction_id: int | None = Field(description="the correction that drew it; null: as it was found")


class RegionCorrectionOut(FromView):
    """A manual correction of the regions of a tag at a place in an image."""

    id: int
    tag: str
    box: list[float] = Field(description=BOX)
    is_there: bool = Field(description="whether the tag is there, or is not")
    said_by: str = Field(description="name of the author's token, or `local`")
    said_at: datetime


class RegionsOut(BaseModel):
    """The regions of tags in one image, with people's corrections."""

    image_id: int
    generation_id: int
    model: str
    regions: list[RegionOut]
    is_cut: bool = Field(description="whether there are more regions than the limit")
    located_at: datetime
    corrections: list[RegionCorrectionOut]

    @classmethod
    def of(cls, view: RegionsView, corrections: Sequence[RegionCorrectionView]) -> RegionsOut:
        """Return a view as JSON."""
        from storage.results.masks import Mask  # noqa: PLC0415  (NumPy, which a client does not need)

        return cls(
            image_id=view.image_id,
            generation_id=view.generation_id,
            model=view.model,
            regions=[
                RegionOut(
                    number=region.number,
                    tag=region.tag,
                    score=region.score,
                    box=list(region.box),
                    mask=None if region.mask is None else MaskOut.model_validate(Mask.from_bytes(region.mask).coco()),
                    mask_quality=region.mask_quality,
                    correction_id=region.correction_id,
                )
                for region in view.regions
            ],
            is_cut=view.is_cut,
            located_at=view.located_at,
            corrections=[RegionCorrectionOut.model_validate(one) for one in corrections],
        )


class RegionCorrection(BaseModel):
    """A new correction of the regions of a tag at a place in an image."""

    model_config = ConfigDict(extra="forbid")

    tag: str = Field(min_length=1, max_length=200, examples=["dog"])
    box: list[Fraction] = Field(min_length=4, max_length=4, description=BOX, examples=[[0.1, 0.2, 0.6, 0.9]])
    is_there: bool = Field(description="true: the tag is in this box; false: it is not at about this place")
