"""The API's types for generations."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView, IndexOut


class GenerationOut(FromView):
    """A generation: the model, vocabulary and preprocessing of a set of results."""

    id: int
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int
    vocabulary: str
    tags: int
    is_default: bool = Field(description="whether search uses it, unless a request names another")
    created_at: datetime
    served_until: datetime | None = Field(description="when search switched to another generation")


class GenerationStateOut(GenerationOut):
    """A generation and how much it has recorded."""

    images: int
    open_jobs: int
    is_former: bool = Field(description="whether a rollback switches to it")
    index: IndexOut


class UseGeneration(BaseModel):
    """Options for using a generation."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(False, description="switch even if it has recorded fewer images than the generation in use")


class TagChangeOut(FromView):
    """One tag in two generations, matched by name."""

    name: str
    is_in_a: bool = Field(description="whether the vocabulary of the first generation has it")
    is_in_b: bool
    count_a: int = Field(description="images with this tag in the first generation")
    count_b: int
    kept: int = Field(description="images recorded in both that have this tag in both")
    gained: int = Field(description="images recorded in both that have this tag only in the second")
    lost: int = Field(description="images recorded in both that have this tag only in the first")
    gained_images: list[int] = Field(description="ids of some gained images")
    lost_images: list[int]


class ComparisonOut(FromView):
    """The comparison of two generations. `tags` lists the tags that changed most first."""

    a: GenerationOut
    b: GenerationOut
    images_a: int
    images_b: int
    images_both: int
    images_changed: int = Field(description="images recorded in both whose tags differ")
    tags: list[TagChangeOut]


class DropOut(FromView):
    """The numbers of items that were erased when a generation was dropped."""

    generation_id: int
    records: int
    vectors: int
    features: int


class StageGenerationOut(FromView):
    """What made the results of a stage beside recognition."""

    id: int
    stage: str
    model: str
    weights_sha256: str
    preprocessing: str
    images: int = Field(description="images that it has done")
    is_default: bool = Field(description="whether search uses it")
    created_at: datetime
