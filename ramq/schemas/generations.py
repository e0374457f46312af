"""What the API says of generations; see ``schemas``."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView, IndexOut


class GenerationOut(FromView):
    """What made a set of results."""

    id: int
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int
    vocabulary: str
    tags: int
    is_default: bool = Field(description="it serves search unless a request names another")
    created_at: datetime
    served_until: datetime | None = Field(description="when another took its place in search")


class GenerationStateOut(GenerationOut):
    """A generation and how much it has recorded."""

    images: int
    open_jobs: int
    is_former: bool = Field(description="where a rollback leads")
    index: IndexOut


class UseGeneration(BaseModel):
    """How a generation is put to use."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(False, description="although it has recorded fewer images than the one that serves")


class TagChangeOut(FromView):
    """One tag in two generations, by its name."""

    name: str
    is_in_a: bool = Field(description="the vocabulary of the first has it")
    is_in_b: bool
    count_a: int = Field(description="images that have it in the first")
    count_b: int
    kept: int = Field(description="of the images recorded in both: those that have it in both")
    gained: int = Field(description="those that have it in the second only")
    lost: int = Field(description="those that have it in the first only")
    gained_images: list[int] = Field(description="ids of some of them")
    lost_images: list[int]


class ComparisonOut(FromView):
    """What changed between two generations; `tags` begins with those that change most."""

    a: GenerationOut
    b: GenerationOut
    images_a: int
    images_b: int
    images_both: int
    images_changed: int = Field(description="images recorded in both whose tags differ")
    tags: list[TagChangeOut]


class DropOut(FromView):
    """What dropping a generation erased."""

    generation_id: int
    records: int
    vectors: int
    features: int
