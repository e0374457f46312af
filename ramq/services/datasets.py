"""Data sets for training: made from archives, searches and manifests, looked at, compared and corrected."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ramq.services.corrections import LOCAL
from storage.database import unit_of_work
from storage.datasets import gathering, items, labels, said, versions
from storage.errors import ConflictError, NotFoundError, RamqError, UsageError
from storage.results import generations, lookup, vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.dataset_gathering import Gatherer
    from ramq.services.search import SearchClient
    from storage.datasets.labels import Label
    from storage.datasets.versions import VersionView
    from storage.objects.base import S3Options
    from storage.results.tags import Names
    from storage.search.search import Search

STATES: dict[Literal["pause", "resume", "cancel"], tuple[versions.State, tuple[versions.State, ...]]] = {
    "pause": ("paused", ("running", "paused")),
    "resume": ("running", ("running", "paused", "failed")),
    "cancel": ("cancelled", ("running", "paused", "failed", "cancelled")),
}
"""The states that a step gets by what people ask for, and those in which it may be."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a version is built from.

    Attributes:
        sources: archives and folders in them, searches, manifests; see ``dataset_gathering``.
        captions: a file of captions that this process can read.
        caption_column: the column of captions, of manifests and of ``captions``. None: found by its name.
        validation: about how much of the pictures is for validation, 0..1.
        near: pictures whose vectors have at least this cosine are near copies, -1..1.
        vocabulary: a name that ``ramq vocab list`` shows. None: that of the generation in use.
    """

    sources: Sequence[str]
    captions: str | None = None
    caption_column: str | None = None
    validation: float = 0.1
    near: float = 0.97
    vocabulary: str | None = None


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag of a version: pictures that keep it, that lost it by reason, and origins of those that keep it."""

    tag_id: int
    name: str
    kept: int
    dropped: dict[str, int]
    origins: dict[str, int]


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A tag of a picture; see ``storage.datasets.labels.Label``."""

    tag_id: int
    name: str
    origins: list[str]
    reason: str | None
    certainty: float | None
    evidence: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PictureView:
    """A picture of a version with everything that is known of it."""

    image_id: int
    uri: str
    is_validation: bool
    group_id: int | None
    captions: list[dict[str, str]]
    labels: list[LabelRow]


@dataclass(frozen=True, slots=True)
class TagDifference:
    """How many pictures have a tag in the new version only, and in the old one only."""

    tag_id: int
    name: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What two versions of a data set differ in. Counts are those of when they were made."""

    old: VersionView
    new: VersionView
    tags: list[TagDifference] = field(default_factory=list)


class DatasetClient:
    """Data sets. Thread-safe. Every method is one transaction, but for those that read sources and files.

    Args:
        engine: the database.
        search: loads vocabularies.
        find: finds the images of searches.
        archive_allow: roots that may be read.
        is_reachable: whether other machines can reach this service.
        s3: options for access to buckets.
    """

    def __init__(
        self,
        engine: Engine,
        search: Search,
        find: Callable[[], SearchClient],
        *,
        archive_allow: tuple[str, ...],
        is_reachable: bool,
        s3: S3Options,
    ) -> None:
        self._engine = engine
        self._search = search
        self._find = find
        self._allow = archive_allow
        self._is_reachable = is_reachable
        self._s3 = s3

    # Steps ---------------------------------------------------------------------------------------------------------

    def build(self, name: str, request: BuildRequest, *, by: str = LOCAL) -> VersionView:
        """Begin to build the next version of a data set, and read its sources. Workers do the rest.

        The first version creates the data set. Pictures of the newest version that is done keep their split.

        Raises:
            UsageError: an argument is invalid, or nothing that the sources name is recognised yet.
            NotFoundError: there is no such archive, vocabulary or manifest.
            ConflictError: another step of this data set has not ended.
        """
        version = self.begin_build(name, request, by=by)
        return self.gather(version, request)

    def begin_build(self, name: str, request: BuildRequest, *, by: str = LOCAL) -> VersionView:
        """Begin a version without reading its sources: see ``build``, and call ``gather`` then."""
        if not request.sources:
            raise UsageError("no source is given; name an archive, a search or a manifest")
        if not 0 <= request.validation < 1:
            raise UsageError(f"the share for validation is {request.validation:g}; give one from 0 to below 1, as 0.1")
        if not 0 < request.near <= 1:
            raise UsageError(f"the cosine of near copies is {request.near:g}; give one above 0, at most 1")
        with unit_of_work(self._engine) as session:
            serving = generations.default(session)
            if serving is None:
                raise UsageError(f"nothing is recognised yet; run `ramq enqueue {request.sources[0]}` first")
            wanted = None if request.vocabulary is None else vocabularies.find(session, request.vocabulary).id
            parent_id, dataset_id = self._set_of(session, name, wanted or serving.vocabulary_id, wanted, by)
            settings = {**asdict(request), "sources": list(request.sources), "generation": serving.id}
            version_id = versions.begin(
                session,
                dataset_id,
                step="build",
                phase=gathering.PHASE,
                settings=settings,
                parent_id=parent_id,
                said_by=by,
            )
            gathering.hear(session, version_id)
            return versions.view(session, version_id)

    def gather(self, version: VersionView, request: BuildRequest) -> VersionView:
        """Read the sources of a version that ``begin_build`` began. If they cannot be read, it is deleted again."""
        try:
            gatherer = self._gatherer(version)
            for source in request.sources:
                gatherer.add(source, request.caption_column)
            if request.captions is not None:
                gatherer.add_captions(request.captions, request.caption_column)
            gatherer.add_sidecars()
            gatherer.end("label")
        except BaseException:
            self._take_back(version)
            raise
        return self.get(version.id)

    def correct(self, name: str, *, by: str = LOCAL) -> VersionView:
        """Begin the next version of a data set, with the corrections that people made since the last one.

        Raises:
            NotFoundError: there is no such data set, or no version of it is done.
            UsageError: nobody said anything that would change it.
            ConflictError: another step has not ended.
        """
        with unit_of_work(self._engine) as session:
            parent = versions.find(session, name)
            changed = said.changes(session, parent.id, parent.vocabulary_id)
            if not changed.total:
                raise UsageError(
                    f"no correction changes version {parent.number} of {parent.name}; correct its pictures' tags first"
                )
            version_id = versions.begin(
                session,
                parent.dataset_id,
                step="correct",
                phase="correct",
                settings={"present": changed.present, "removed": changed.removed},
                parent_id=parent.id,
                said_by=by,
            )
            return versions.view(session, version_id)

    def steer(self, name: str, action: Literal["pause", "resume", "cancel"]) -> VersionView:
        """Pause, resume or cancel the step of a data set that has not ended: its newest version.

        Raises:
            NotFoundError: there is no such data set.
            ConflictError: the step has ended.
        """
        to, allowed = STATES[action]
        with unit_of_work(self._engine) as session:
            newest = versions.newest(session, name)
            versions.steer(session, newest.id, to=to, allowed=allowed)
            return versions.view(session, newest.id)

    def delete(self, name: str) -> int:
        """Delete a data set with all its versions. Return how many. Raises as ``storage.datasets.versions.delete``."""
        with unit_of_work(self._engine) as session:
            found = versions.views(session, name)
            if not found:
                versions.find(session, name)
            versions.delete(session, found[0].dataset_id)
            return len(found)

    # Reading -------------------------------------------------------------------------------------------------------

    def get(self, version_id: int) -> VersionView:
        """Return a version by its id. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return versions.view(session, version_id)

    def versions(self, name: str) -> list[VersionView]:
        """Return all versions of a data set, in order. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            found = versions.views(session, name)
            return found or [versions.find(session, name)]

    def find(self, named: str) -> VersionView:
        """Return a version by ``name`` (the newest that is done) or ``name@number``. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return versions.find(session, named)

    def newest(self, named: str) -> VersionView:
        """Return a version by ``name@number``, or the newest one of ``name``, done or not. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return versions.find(session, named) if "@" in named else versions.newest(session, named)

    def deleted(self, version: VersionView) -> int:
        """Return how many pictures of a version were deleted since it was made."""
        if version.state != "done":
            return 0
        with unit_of_work(self._engine) as session:
            return max(0, int(version.counts.get("images", 0)) - items.count(session, version.id))

    def tags(self, version: VersionView) -> list[TagRow]:
        """Return the tags of a version, with the most pictures first."""
        if version.state == "cancelled":
            return []
        with unit_of_work(self._engine) as session:
            names = self.names(session, version)
            return [
                TagRow(each.tag_id, names.names[each.tag_id], each.kept, dict(each.dropped), dict(each.origins))
                for each in labels.tag_counts(session, version.id)
            ]

    def picture(self, version: VersionView, image_id: int) -> PictureView:
        """Return a picture of a version with its captions and labels. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            found = items.of_images(session, version.id, [image_id])
            if not found:
                raise NotFoundError(f"image {image_id} is not in version {version.number} of {version.name}")
            uri, key, _ = lookup.locate(session, image_id)
            names = self.names(session, version)
            [item] = found
            return PictureView(
                image_id,
                lookup.uri_of(uri, key),
                item.is_validation,
                item.group_id,
                [{"caption": text, "origin": origin} for text, origin in zip(item.captions, item.origins, strict=True)],
                [_row(each, names) for each in labels.of_images(session, version.id, [image_id]).get(image_id, [])],
            )

    def compare(self, old: str, new: str) -> Difference:
        """Compare the kept labels of two versions, each ``name`` or ``name@number``.

        Raises:
            NotFoundError: there is no such version.
            UsageError: their tags are of different vocabularies.
        """
        with unit_of_work(self._engine) as session:
            was, now = versions.find(session, old), versions.find(session, new)
            if was.vocabulary_id != now.vocabulary_id:
                raise UsageError(f"the tags of {was.name} and {now.name} are of different vocabularies")
            names = self.names(session, now)
            return Difference(
                was,
                now,
                [
                    TagDifference(each.tag_id, names.names[each.tag_id], each.added, each.removed)
                    for each in labels.changes(session, was.id, now.id)
                ],
            )

    def names(self, session: Session, version: VersionView) -> Names:
        """Return the vocabulary of a version."""
        return self._search.vocabulary(session, version.vocabulary_id)

    # Parts ---------------------------------------------------------------------------------------------------------

    def _set_of(
        self, session: Session, name: str, vocabulary_id: int, wanted: int | None, by: str
    ) -> tuple[int | None, int]:
        """Return the parent of the next version of a data set, and its id. Create it if it is new."""
        known = versions.views(session, name)
        if not known:
            return None, versions.create(session, name, vocabulary_id, by)
        if wanted is not None and wanted != known[0].vocabulary_id:
            held = vocabularies.view(session, known[0].vocabulary_id).name
            raise ConflictError(f"the tags of {name} are of the vocabulary {held!r}; give another name for a new set")
        done = [view for view in known if view.state == "done"]
        return (done[-1].id if done else None), known[0].dataset_id

    def _gatherer(self, version: VersionView) -> Gatherer:
        from ramq.services.dataset_gathering import Gatherer  # noqa: PLC0415  (few commands read sources)

        return Gatherer(
            self._engine,
            version,
            self._find(),
            archive_allow=self._allow,
            is_reachable=self._is_reachable,
            s3=self._s3,
        )

    def _take_back(self, version: VersionView) -> None:
        """Delete a version whose sources could not be read, and its data set if it has no other."""
        try:
            with unit_of_work(self._engine) as session:
                versions.take_back(session, version.id)
        except RamqError:
            # The error that led here is what matters. Workers notice that nobody reads the sources any more.
            return

    def list(self) -> list[VersionView]:
        """Return the newest version of each data set, newest set first."""
        with unit_of_work(self._engine) as session:
            return [*{view.name: view for view in versions.views(session)}.values()]


def _row(label: Label, names: Names) -> LabelRow:
    return LabelRow(
        label.tag_id,
        names.names[label.tag_id],
        list(label.origins),
        label.reason,
        label.certainty,
        None if label.evidence is None else dict(label.evidence),
    )
