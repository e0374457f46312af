"""Jobs: create and control them, and read their failures, reports and workers. Needs only the database."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from ramq.services.backlog import backlog_of
from ramq.services.estimates import Amounts, Question, estimate
from ramq.services.job_wishes import JobWishes, Settled, priority_named, settle
from ramq.services.retagging import require_features, source_of
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.ledger import failures, followers, jobs, reports, requests, retries
from storage.ledger import workers as worker_rows
from storage.ledger.views import PAGES
from storage.objects.ignoring import Selection
from storage.objects.manifest import Manifest, is_manifest
from storage.objects.source import open_store, parse_source, require_allowed
from storage.results import archives, features, teachings, vocabularies
from storage.tables import Archive
from storage.texts import other_forms
from workers.messages import (
    ANY_MODEL,
    MODELS_WITH_TOKENS,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from sqlalchemy import Engine

    from ramq.services.backlog import BacklogView
    from ramq.services.estimate_views import EstimateView
    from ramq.services.trial import Trial
    from storage.ledger.requests import RequestKey
    from storage.ledger.views import FailureView, JobReport, JobState, JobView
    from storage.ledger.worker_views import WorkerView
    from storage.objects.base import ObjectInfo, ObjectStore, S3Options
    from storage.objects.source import Source
    from storage.page import Page


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The defaults of new jobs, and the archives that they may read.

    Attributes:
        model: name of the model.
        captioner: ``none``, ``template`` or ``tag2text``.
        archive_allow: roots that jobs may read.
        is_reachable: whether other machines can reach this service. If so, an empty ``archive_allow`` allows nothing.
        s3: options for access to buckets.
        features: the features that new jobs keep; see ``workers.messages.features_kept``.
        stage_models: the model of each further stage.
        models_dir: the folder of checkpoints.
    """

    model: str
    captioner: str
    archive_allow: tuple[str, ...]
    is_reachable: bool
    s3: S3Options
    features: str = "auto"
    stage_models: Mapping[str, str] = field(default_factory=dict)
    models_dir: Path = Path()


class JobClient:
    """Jobs. Thread-safe. Every method is one transaction."""

    def __init__(self, engine: Engine, options: ClientOptions) -> None:
        self._engine = engine
        self._options = options

    def models(self) -> list[str]:
        """Return the models that a job may name: those of recognition, then the trained ones that are here."""
        from ram_core.trained import trained  # noqa: PLC0415  (only the page asks)

        here = trained(self._options.models_dir)
        return [*ANY_MODEL, *(each.name for each in here if each.kind in ANY_MODEL)]

    def create(  # noqa: PLR0913  (what a job may be asked for)
        self,
        source: str,
        *,
        model: str | None = None,
        caption: bool | None = None,
        priority: str = "normal",
        vocabulary: str | None = None,
        stages: Sequence[str] = (),
        selection: Selection = Selection(),  # noqa: B008  (frozen)
        pages: bool = False,
        request: RequestKey | None = None,
        by: str = LOCAL,
    ) -> JobView:
        """Start a job on ``source``, registering the archive if it is new.

        Each further stage is a job of its own that follows the listing of this one: see ``followers``.

        Args:
            source: ``s3://bucket/prefix``, a folder, or a manifest (see ``storage.objects.manifest``).
            model: name of the model. None: the one in the settings.
            caption: whether to write captions. None: as in the settings.
            priority: ``low``, ``normal`` or ``high``.
            vocabulary: a name that ``ramq vocab list`` shows, to use its tags. None: those that people taught the
                model, if search uses them; else the model's own.
            stages: further stages, for example ``text``. ``recognition`` may be named too.
            selection: which keys are listed. The default list does not count for manifests: people named their keys.
            pages: whether each page of a TIFF or PDF file is an image of its own.
            request: the idempotency key of the request. A repeated request returns the job that it started.
            by: who starts it.

        Raises:
            UsageError: an argument is invalid, or the source does not exist.
            ForbiddenError: the allow-list or the permissions of the source forbid reading it.
            StoreUnavailableError, CredentialsError: the object store cannot be accessed.
            ConflictError: another request used the same key.
            QuotaError: a quota does not allow another job, or not this priority.
        """
        asked = settle(JobWishes(model, caption, priority, vocabulary, stages, selection), self._options)
        urgency = priority_named(priority)
        place, name, manifest_version = self._place_of(source)
        if manifest_version is not None:
            selection = replace(selection, has_defaults=False)
        with unit_of_work(self._engine) as session:
            known = requests.job_of(session, request) if request is not None else None
            if known is not None:
                return jobs.view(session, known)
            own_tags = (
                vocabularies.find(session, vocabulary).id if vocabulary else teachings.tags_in_use(session, asked.model)
            )
            archive, prefix = archives.ensure(session, place)
            job_id = jobs.create(
                session,
                archive=archive,
                source=name,
                manifest_version=manifest_version,
                prefix=prefix,
                model=asked.model,
                captioner=asked.captioner,
                priority=urgency,
                features=asked.features,
                vocabulary_id=own_tags,
                selection=selection,
                options={PAGES: True} if pages else None,
                said_by=by,
            )
            for stage, stage_model in asked.stages.items():
                jobs.create(
                    session,
                    archive=archive,
                    source=name,
                    prefix=prefix,
                    model=stage_model,
                    captioner="none",
                    priority=urgency,
                    stage=stage,
                    with_job_id=job_id,
                    said_by=by,
                )
            if request is not None:
                requests.remember(session, request, job_id)
            return jobs.view(session, job_id)

    def retag(
        self,
        vocabulary: str,
        *,
        from_generation: int | None = None,
        archive: str | None = None,
        skip_missing: bool = False,
        by: str = LOCAL,
    ) -> list[JobView]:
        """Retag recorded images with another vocabulary, without reading any archive. Start one job for each archive.

        Args:
            vocabulary: a name that ``ramq vocab list`` shows, or its id.
            from_generation: the generation whose vectors and features to use. None: the one in use.
            archive: only this archive: its URI, a URI below it, or its id. None: all.
            skip_missing: skip images whose features are not kept.
            by: who starts them.

        Raises:
            NotFoundError: there is no such vocabulary, generation or archive.
            UsageError: the generation already has these tags, has recorded nothing, or lacks the features of some
                images; or the archive is blank.
        """
        with unit_of_work(self._engine) as session:
            wanted = vocabularies.find(session, vocabulary)
            source = source_of(session, from_generation)
            if wanted.id == source.vocabulary_id:
                raise UsageError(f"generation {source.id} already has the tags of {wanted.name!r}")
            within = archives.resolve(session, archive) if archive is not None else None
            stock = [each for each in features.stock(session, source.id) if not within or each.archive_id == within[0]]
            if not stock:
                raise UsageError(f"generation {source.id} has recorded no images there; see `ramq generations`")
            needs = kind_of(source.model) in MODELS_WITH_TOKENS or teachings.is_taught(session, wanted.id)
            if needs and not skip_missing:
                require_features(source, stock)
            jobs_ = [
                jobs.create(
                    session,
                    archive=place,
                    source=place.uri,
                    prefix=within[1] if within else "",
                    model=source.model,
                    captioner="none",  # captions are copied
                    priority="normal",
                    vocabulary_id=wanted.id,
                    from_generation_id=source.id,
                    said_by=by,
                )
                for each in stock
                if (place := session.get(Archive, each.archive_id)) is not None
            ]
            return [jobs.view(session, job_id) for job_id in jobs_]

    def get(self, job_id: int) -> JobView:
        """Return a job. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return jobs.view(session, job_id)

    def get_all(self, job_ids: Sequence[int]) -> list[JobView]:
        """Return jobs, in this order, without the classes of their failures. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return jobs.views_of(session, job_ids)

    def followers(self, job_id: int) -> list[JobView]:
        """Return the jobs of the further stages that were requested together with a job."""
        with unit_of_work(self._engine) as session:
            return [jobs.view(session, follower) for follower in followers.of(session, job_id)]

    def pause(self, job_id: int) -> JobView:
        """Pause a job. Workers stop within one batch. Raises ``ConflictError`` unless it is running."""
        return self._set_state(job_id, to="paused", allowed=("running", "paused"))

    def resume(self, job_id: int) -> JobView:
        """Resume a paused or failed job."""
        return self._set_state(job_id, to="running", allowed=("paused", "failed", "running"))

    def cancel(self, job_id: int) -> JobView:
        """Cancel a job. Recorded results stay."""
        return self._set_state(job_id, to="cancelled", allowed=("running", "paused", "failed", "cancelled"))

    def retry(self, job_id: int, error_class: str | None = None) -> JobView:
        """Retry the failed images of a job: all of them, or those of one class.

        Raises:
            NotFoundError: no such job.
            UsageError: it has no such failures.
            QuotaError: it had ended, and a quota does not allow its user another job.
        """
        with unit_of_work(self._engine) as session:
            before = jobs.view(session, job_id)
            jobs.require_quota(session, job_id)
            if not retries.reopen_failed(session, job_id, error_class):
                classes = ", ".join(before.failures_by_class) or "none"
                wanted = f"no failure of class {error_class!r}" if error_class else "no failures"
                raise UsageError(f"job {job_id} has {wanted}; its classes are: {classes}")
            return jobs.view(session, job_id)

    def failures(
        self, job_id: int, *, error_class: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[FailureView]:
        """Return the failed images of a job.

        Raises:
            NotFoundError: no such job.
            UsageError: there is no such class of failure.
        """
        from workers.pipeline.retry import codes  # noqa: PLC0415  (loads the errors of models; only this needs them)

        with unit_of_work(self._engine) as session:
            view = jobs.view(session, job_id)
            known = sorted({*codes(), *view.failures_by_class})
            if error_class and error_class not in known:
                raise UsageError(f"unknown class of failure {error_class!r}; choose one of {', '.join(known)}")
            return failures.views(session, job_id, error_class=error_class, limit=limit, cursor=cursor)

    def report(self, job_id: int) -> JobReport:
        """Return the counts of a job's outcomes, and the SHA-256 of its report lines. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return reports.summary(session, job_id)

    def report_lines(self, job_id: int) -> Generator[bytes, None, None]:
        """Yield one line of JSON for each key, sorted. ``report`` has their hash. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            yield from reports.lines(session, job_id)

    def workers(self) -> list[WorkerView]:
        """Return the worker processes. Those that are alive come first."""
        with unit_of_work(self._engine) as session:
            return worker_rows.views(session)

    def backlog(self, *, kinds: Sequence[str] = (), device: str = "cpu") -> BacklogView:
        """Return what waits for each kind of worker, in seconds of work; see ``ramq.services.backlog``."""
        return backlog_of(self._engine, kinds=kinds, device=device)

    def estimate(
        self,
        source: str,
        wishes: JobWishes,
        amounts: Amounts = Amounts(),  # noqa: B008  (frozen)
        trial: Callable[[str, ObjectStore, Sequence[ObjectInfo]], Trial] | None = None,
    ) -> EstimateView:
        """Return what a job would take; see ``ramq.services.estimates``. Raises as ``create``, and as that."""
        place, name, manifest_version = self._place_of(source)
        selection = wishes.selection
        if manifest_version is not None:
            selection = replace(selection, has_defaults=False)
        manifest = None if manifest_version is None else Manifest(name, self._options.s3)
        asked = Question(place, manifest, selection, settle(wishes, self._options), wishes.pages, amounts)
        return estimate(self._engine, self._options.s3, asked, trial)

    def settled(self, wishes: JobWishes) -> Settled:
        """Return what jobs with these wishes do. Raises ``UsageError`` if they cannot be fulfilled."""
        return settle(wishes, self._options)

    def place_to_watch(self, source: str) -> Source:
        """Return the archive, or the part of one, that a source names. Raises as ``create``; also for a manifest."""
        if is_manifest(source):
            raise UsageError(f"{source!r} is a list of keys, which cannot be watched: give a bucket or a folder")
        return self._place_of(source)[0]

    def _place_of(self, source: str) -> tuple[Source, str, str | None]:
        """Return the archive of a source, the name of the source, and its version if it is a manifest."""
        allowed, reachable = self._options.archive_allow, self._options.is_reachable
        if is_manifest(source):
            manifest = Manifest(source, self._options.s3)
            require_allowed(manifest.place, allowed, reachable=reachable)
            version = manifest.version()
            return manifest.survey(allowed, reachable=reachable), manifest.uri, version
        place = _as_on_disk(parse_source(source))
        require_allowed(place, allowed, reachable=reachable)
        open_store(place, self._options.s3).check()
        if place.scheme == "file" and place.prefix:
            tar = Path(place.root, place.prefix.partition("/")[0])
            if not tar.exists():
                raise NotFoundError(f"there is no tar file {tar}")
        return place, place.uri, None

    def _set_state(self, job_id: int, *, to: JobState, allowed: tuple[JobState, ...]) -> JobView:
        with unit_of_work(self._engine) as session:
            jobs.set_state(session, job_id, to=to, allowed=allowed)
            return jobs.view(session, job_id)

    def list(
        self, limit: int = 50, before: int | None = None, *, watch: int | None = None, fold: bool = False
    ) -> Page[JobView]:
        """Return jobs, newest first.

        Args:
            limit: how many.
            before: only jobs older than this one.
            watch: only jobs that this watch began.
            fold: of jobs of a watch that ended well, show the newest one only.
        """
        with unit_of_work(self._engine) as session:
            return jobs.views(session, limit=limit, before=before, watch_id=watch, is_folded=fold)


def _as_on_disk(place: Source) -> Source:
    """Return a folder in the Unicode form in which the disk has it, if that is another one."""
    if place.scheme != "file" or Path(place.root).exists():
        return place
    there = [form for form in other_forms(place.root) if Path(form).exists()]
    return replace(place, root=there[0]) if len(there) == 1 else place
