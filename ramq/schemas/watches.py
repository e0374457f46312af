"""The API's types for watches."""

from datetime import datetime

from pydantic import BaseModel, Field

from ramq.schemas.jobs import NewJob
from ramq.schemas.views import FromView
from storage.ledger.views import Priority
from storage.ledger.watch_events import Events
from storage.ledger.watch_views import WatchState


class WatchOut(FromView):
    """An archive, or a part of one, that is watched."""

    id: int
    source: str
    archive_id: int
    state: WatchState = Field(description="`failing`: its last job failed, and it pauses before the next one")
    every_seconds: int = Field(description="from the beginning of one listing to that of the next one")
    settle_seconds: float = Field(description="how long a key has to be quiet before it is looked at")
    events: Events = Field(description="what tells of changes")
    events_state: str = Field(description="in words: whether events are received, and if not, why")
    is_told: bool = Field(description="whether events are received now")
    queue_url: str | None
    receiver: str | None = Field(description="the worker that receives the events; null: none, or they are sent here")
    events_waiting: int = Field(description="keys that no job has looked at yet")
    oldest_event_seconds: float | None = Field(description="age of the oldest of these keys")
    events_taken: int = Field(description="keys that events named since the watch was added")
    events_ignored: int = Field(description="events of other buckets, outside of the prefix, or about no change")
    model: str
    captioner: str
    stages: list[str]
    vocabulary: str | None
    priority: Priority
    include: list[str]
    exclude: list[str]
    defaults: bool
    pages: bool = Field(description="whether each page of a TIFF or PDF file is an image of its own")
    listing_job: int | None = Field(description="the last job that listed everything")
    is_listing: bool = Field(description="whether that job has not ended")
    listed_at: datetime | None = Field(description="when everything was last listed and worked off")
    next_listing_at: datetime
    overdue_seconds: float = Field(description="by how much the next listing is late")
    list_now_reason: str | None = Field(description="why everything is listed before it is due")
    event_job: int | None = Field(description="the last job on keys that events named")
    searchable_after_seconds: float | None = Field(
        description="how long the oldest key of that job waited, from the event to the end of the job"
    )
    failures: int = Field(description="jobs that failed since one succeeded")
    error: str | None = Field(description="why the last one failed")
    note: str | None = Field(description="why a listing was left out, or what the current one waits for")
    created_at: datetime


class AddedWatchOut(FromView):
    """A watch, and the secret that a store has to send with its events."""

    watch: WatchOut
    secret: str | None = Field(description="shown only now; null if no events are sent here")


class TakenOut(FromView):
    """What became of the events in a request."""

    taken: int = Field(description="keys that will be looked at")
    ignored: int = Field(description="events of other buckets, outside of the prefix, or about no change")


class NewWatch(NewJob):
    """A new watch: what its jobs are asked for, how often it lists, and what tells of changes."""

    every: str = Field("1h", max_length=20, description="list everything this often", examples=["15m", "1h", "1d"])
    events: str = Field(
        "none",
        max_length=1_010,
        pattern=r"^[^\x00]*$",
        description="`none`, `inotify` (a folder of the workers), `webhook` (the store sends them here), or "
        "`sqs:QUEUE-URL`",
        examples=["webhook"],
    )
    settle_seconds: float = Field(2.0, ge=0, le=3_600, description="look at a key after it was quiet for this long")


class S3EventNotification(BaseModel):
    """What a store sends. Other fields are ignored."""

    Records: list[dict[str, object]] = Field(description="each with `eventName`, `s3.bucket.name`, `s3.object.key`")
