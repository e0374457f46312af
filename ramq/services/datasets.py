"""Data sets for training: made from archives, searches and manifests, looked at, compared and corrected."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from ramq.services.author import LOCAL
from ramq.services.dataset_views import Difference, PictureView, TagDifference, TagRow, picture_view
from storage.database import unit_of_work
from storage.datasets import gathering, items, labels, said, tasks, versions
from storage.errors import ConflictError, NotFoundError, RamqError, UsageError
from storage.results import generations, lookup, vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.dataset_exchange import Exported
    from ramq.services.dataset_gathering import Gatherer
    from ramq.services.dataset_pictures import Picture
    from ramq.services.dataset_views import BuildRequest, ImportRequest
    from ramq.services.picture_bytes import Fetch
    from ramq.services.search import SearchClient
    from storage.datasets.versions import Step, VersionView
    from storage.objects.source import ArchiveAccess
    from storage.results.tags import Names
    from storage.search.search import Search

STATES: dict[Literal["pause", "resume", "cancel"], tuple[versions.State, tuple[versions.State, ...]]] = {
    "pause": ("paused", ("running", "paused")),
    "resume": ("running", ("running", "paused", "failed")),
    "cancel": ("cancelled", ("running", "paused", "failed", "cancelled")),
}
"""The states that a step gets by what people ask for, and those in which it may be."""


class DatasetClient:
    """Data sets. Thread-safe. Every method is one transaction, but for those that read sources and files.

    Args:
        engine: the database.
        search: loads vocabularies.
        find: finds the images of searches.
        access: which archives may be read.
    """

    def __init__(self, engine: Engine, search: Search, find: Callable[[], SearchClient], access: ArchiveAccess) -> None:
        self._engine = engine
        self._search = search
        self._find = find
        self._access = access

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
        if request.near is not None and not 0 < request.near <= 1:
            raise UsageError(f"the cosine of near copies is {request.near:g}; give one above 0, at most 1")
        settings = {**asdict(request), "sources": list(request.sources)}
        return self._begin(name, "build", settings, request.vocabulary, f"`ramq enqueue {request.sources[0]}`", by)

    def gather(self, version: VersionView, request: BuildRequest) -> VersionView:
        """Read the sources of a version that ``begin_build`` began. If they cannot be read, it is deleted again."""
        with self._taken_back(version):
            self._gather(version, request)
        return self.get(version.id)

    def gather_or_fail(self, version: VersionView, request: BuildRequest) -> None:
        """Do as ``gather``, for nobody who waits: if the sources cannot be read, the version fails and says why."""
        try:
            self._gather(version, request)
        except Exception as error:
            is_known = isinstance(error, RamqError)
            told = f"the sources cannot be read ({type(error).__name__}): the server's log says more"
            why = str(error) if is_known else told
            with unit_of_work(self._engine) as session:
                versions.fail(session, version.id, f"{why}; cancel it, and build it again")
            if not is_known:
                raise

    def _gather(self, version: VersionView, request: BuildRequest) -> None:
        gatherer = self._gatherer(version)
        with gatherer.heard():
            for source in request.sources:
                gatherer.add(source, request.caption_column)
            if request.captions is not None:
                gatherer.add_captions(request.captions, request.caption_column)
            gatherer.add_sidecars()
        gatherer.end("label")

    def import_(self, file: Path, request: ImportRequest, *, by: str = LOCAL) -> VersionView:
        """Begin a version from a file or folder that another program, or ``export``, wrote, and read it.

        Raises:
            UsageError: the file cannot be read, or none of its pictures is recognised.
            ConflictError: another step of this data set has not ended.
        """
        from ramq.services.dataset_files import read  # noqa: PLC0415  (few commands read files)

        if not file.exists():
            raise UsageError(f"there is no file {file}")
        settings = {**asdict(request), "file": str(file)}
        version = self._begin(
            request.name, "import", settings, request.vocabulary, "`ramq enqueue` on its pictures", by
        )
        with self._taken_back(version):
            with unit_of_work(self._engine) as session:
                names = self.names(session, version)
            gatherer = self._gatherer(version)
            with gatherer.heard():
                gatherer.add_told(read(file, request.caption_column), request.images, names, self.parser(version))
            gatherer.end("split")
        return self.get(version.id)

    def export(  # noqa: PLR0913  (what is written, and how)
        self,
        named: str,
        format_: str,
        out: Path,
        *,
        split: str | None = None,
        may_replace: bool = False,
        fetch: Fetch,
        failed: Callable[[Picture, str], None],
    ) -> Exported:
        """Write a version to a file, or to a folder with the pictures; see ``dataset_exchange``.

        Raises:
            NotFoundError: there is no such version.
            UsageError: it cannot be written like this.
        """
        from ramq.services import dataset_exchange  # noqa: PLC0415  (few commands write files)

        dataset_exchange.check(format_, split, out, may_replace=may_replace)
        version = self.find(named)
        with unit_of_work(self._engine) as session:
            names = self.names(session, version)
        return dataset_exchange.export(
            self._engine,
            version,
            names,
            format_,
            out,
            split=split,
            may_replace=may_replace,
            parse=self.parser(version),
            fetch=fetch,
            failed=failed,
        )

    def parser(self, version: VersionView) -> Callable[[str], list[int]]:
        """Return what finds the ids of the tags, ascending, that a caption names."""
        from ram_core.labels import TagParser  # noqa: PLC0415  (few commands parse)
        from workers.pipeline.tags import tag_vocabulary  # noqa: PLC0415

        with unit_of_work(self._engine) as session:
            parser = TagParser(tag_vocabulary(session, version.vocabulary_id))
        return lambda caption: sorted({tag.id for tag in parser.parse(caption)})

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
            ConflictError: the step has ended; or its sources are being read, and it is to be paused or resumed.
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
        """Return the tags of a version as they were counted when it was done, with the most pictures first.

        Of a version that is not done there are none yet.
        """
        if version.state != "done":
            return []
        with unit_of_work(self._engine) as session:
            names = self.names(session, version)
            counted = [each for result in tasks.results(session, version.id, "seal") for each in result.get("tags", ())]
            rows = counted or [asdict(each) for each in labels.tag_counts(session, version.id)]
            return [TagRow(name=names.names[each["tag_id"]], **each) for each in rows]

    def picture(self, version: VersionView, image_id: int) -> PictureView:
        """Return a picture of a version with its captions and labels. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            found = items.of_images(session, version.id, [image_id])
            if not found:
                raise NotFoundError(f"image {image_id} is not in version {version.number} of {version.name}")
            uri, key, _ = lookup.locate(session, image_id)
            of_image = labels.of_images(session, version.id, [image_id]).get(image_id, [])
            return picture_view(found[0], lookup.uri_of(uri, key), of_image, self.names(session, version))

    def samples(self, version: VersionView, count: int) -> list[PictureView]:
        """Return some pictures of a version, from all over it."""
        with unit_of_work(self._engine) as session:
            names = self.names(session, version)
            chosen = items.of_images(session, version.id, items.spread(session, version.id, count))
            ids = [item.image_id for item in chosen]
            uris, of_images = lookup.uris(session, ids), labels.of_images(session, version.id, ids)
            return [
                picture_view(item, uris[item.image_id], of_images.get(item.image_id, []), names)
                for item in chosen
                if item.image_id in uris  # else it was deleted meanwhile
            ]

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

    def _begin(
        self, name: str, step: Step, settings: dict[str, Any], vocabulary: str | None, first: str, by: str
    ) -> VersionView:
        """Begin a version whose sources are read next. ``first`` is what to do if nothing is recognised yet."""
        with unit_of_work(self._engine) as session:
            serving = generations.default(session)
            if serving is None:
                raise UsageError(f"nothing is recognised yet; run {first} first")
            wanted = None if vocabulary is None else vocabularies.find(session, vocabulary).id
            known = versions.views(session, name)
            if known and wanted not in {None, known[0].vocabulary_id}:
                held = vocabularies.view(session, known[0].vocabulary_id).name
                raise ConflictError(f"the tags of {name} are of the vocabulary {held!r}; give a new set another name")
            done = [view.id for view in known if view.state == "done"]
            dataset_id = (
                known[0].dataset_id if known else versions.create(session, name, wanted or serving.vocabulary_id, by)
            )
            version_id = versions.begin(
                session,
                dataset_id,
                step=step,
                phase=gathering.PHASE,
                settings={**settings, "generation": serving.id},
                parent_id=done[-1] if done else None,
                said_by=by,
            )
            gathering.hear(session, version_id)
            return versions.view(session, version_id)

    def _gatherer(self, version: VersionView) -> Gatherer:
        from ramq.services.dataset_gathering import Gatherer  # noqa: PLC0415  (few commands read sources)

        return Gatherer(self._engine, version, self._find(), self._access)

    @contextmanager
    def _taken_back(self, version: VersionView) -> Iterator[None]:
        """If the sources of a version cannot be read in the block, delete it, and its data set if it has no other."""
        try:
            yield
        except BaseException:
            # The error that led here is what matters. Workers notice too that nobody reads the sources any more.
            with suppress(RamqError), unit_of_work(self._engine) as session:
                versions.take_back(session, version.id)
            raise

    def list(self, *, with_done: bool = False) -> list[VersionView]:
        """Return the newest version of each data set, newest set first.

        Args:
            with_done: of a set whose newest version is not done, return the newest one that is done before it.
        """
        with unit_of_work(self._engine) as session:
            found = versions.views(session)
        newest = {view.name: view for view in found}
        done = {view.name: view for view in found if view.state == "done"} if with_done else {}
        both = ((done.get(name), view) for name, view in newest.items())
        return [view for was, now in both for view in ((now,) if was is None or was is now else (was, now))]
