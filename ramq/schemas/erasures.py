"""The JSON of deletions."""

from datetime import datetime

from pydantic import Field

from ramq.schemas.views import FromView


class ErasureOut(FromView):
    """A deletion: who asked for it, when, and what it erased."""

    id: int
    kind: str = Field(description="what was named: `images`, a `prefix` or an `archive`")
    archive: str | None = Field(description="null: several archives, or none was named")
    said_by: str
    begun_at: datetime
    finished_at: datetime | None = Field(description="null: it runs, or was interrupted")
    images: int
    sha256: str = Field(description="over the ids of its images, ascending, one a line")
    erased: dict[str, int] = Field(description="how many rows and files of each kind")


class WithdrawalOut(FromView):
    """A deletion that was ended before it had erased all of its images."""

    deletion_id: int
    erased: int = Field(description="images that it had erased")
    stay: int = Field(description="images that stay")
