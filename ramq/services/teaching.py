"""Teaching: name a new thing, or mend a tag, on a few pictures; apply it to the archive without reading a picture."""

from __future__ import annotations

import time
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np

from ramq.services.author import LOCAL
from ramq.services.lessons import KeptFeatures, UnreadableError, contents_of, lesson_of, scores_of
from ramq.services.taught_vocabulary import head_row, left_behind, store
from ramq.services.teach_views import Suggestions, Taught, TeachReport, ToLabel, Wanted, Way
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.index.feature_compaction import forget_lost
from storage.index.feature_files import FeatureFiles
from storage.results import corrections, features, generations, teachings, vocabularies
from storage.results.corrections import Said
from workers.datasets.near import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ram_core.teaching.fitting import Fitted
    from ramq.services.jobs import JobClient
    from ramq.services.lessons import Block, Lesson
    from storage.index.index import VectorIndex
    from storage.results.features import Kept
    from storage.results.teachings import TaughtTag
    from storage.search.search import Search
    from storage.tables import Generation

    ByName = Callable[[Generation, str, NDArray[np.uint8]], NDArray[np.float32] | None]

PRECISION = 0.9
LEAST = 5
"""Pictures that a tag needs."""
SAMPLE = 2_000
"""Images taken at random that nobody named. Nearly all of them do not show what is taught."""
LOOKED_AT = 100_000
"""Images among which those to label next are looked for. Of a larger archive, random ones."""
MOST_DESCRIBED = 64
"""Pictures that are scored by the name of a new tag: RAM takes most of a second for each, on a CPU."""


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _without_lost_files(
    method: Callable[Concatenate[TeachClient, _P], _R],
) -> Callable[Concatenate[TeachClient, _P], _R]:
    """Begin again without the files of features that turn out to be gone or damaged: their images lack features."""

    @wraps(method)
    def run(self: TeachClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        while True:
            try:
                return method(self, *args, **kwargs)
            except UnreadableError as error:
                if not self.forget_lost(error.files):
                    raise

    return run


class TeachClient:
    """Teaching. Thread-safe.

    Args:
        engine: the database.
        search: loads the vocabularies.
        index: returns this process's reader of the index, beside which the features are.
        jobs: starts jobs.
        by_name: scores images by a tag's name from their (B, R) tokens; None if that is impossible here.
    """

    def __init__(
        self,
        engine: Engine,
        search: Search,
        index: Callable[[], VectorIndex],
        jobs: JobClient,
        by_name: ByName | None = None,
    ) -> None:
        self._engine = engine
        self._search = search
        self._index = index
        self._jobs = jobs
        self._by_name = by_name

    def fit(self, tag: str, yes: Sequence[int], no: Sequence[int] = (), *, precision: float = PRECISION) -> TeachReport:
        """Return what a tag would be, and change nothing. See ``teach``."""
        return self.teach([Wanted(tag, yes, no)], precision=precision).reports[0]

    def apply(
        self, tag: str, yes: Sequence[int], no: Sequence[int] = (), *, precision: float = PRECISION, by: str = LOCAL
    ) -> Taught:
        """Teach one tag and apply it. See ``teach``."""
        return self.teach([Wanted(tag, yes, no)], precision=precision, apply=True, by=by)

    def corrected(self, least: int = LEAST) -> list[Wanted]:
        """Return the tags that people added to at least so many images, ``LEAST`` or more.

        Raises:
            UsageError: there are none.
        """
        enough = max(least, LEAST)
        with unit_of_work(self._engine) as session:
            found = [Wanted(one.name) for one in corrections.answers(session, least=enough)]
        if not found:
            raise UsageError(f"no tag was added to {enough} images by people; `ramq tag IMAGE… --add TAG` adds one")
        return found

    @_without_lost_files
    def teach(
        self,
        wanted: Sequence[Wanted],
        *,
        precision: float = PRECISION,
        apply: bool = False,
        skip_missing: bool = False,
        by: str = LOCAL,
    ) -> Taught:
        """Learn tags from images that people named, and from what they said before.

        Args:
            wanted: the tags. Corrections of a tag count too, unless something else is said now.
            precision: the share, of the images that get the tag, that shall be right: 0.5 to 0.99.
            apply: store what was learnt as a new vocabulary, keep the answers as corrections, and start jobs that give
                the tags to all recorded images. Their results are a new generation.
            skip_missing: apply it to the images whose features are kept, even if there are others.
            by: who teaches.

        Raises:
            UsageError: a tag or an image cannot be used, or there are too few; the message says what to do.
        """
        _require_precision(precision)
        with unit_of_work(self._engine) as session:
            kept = self._kept(session)
            if apply and not skip_missing:
                kept.require_all()
            others, source = kept.sample(SAMPLE), kept.source
        lessons: list[Lesson] = []
        fitted: list[tuple[Fitted, TeachReport]] = []
        for each in wanted:  # one after the other: the features of one tag's pictures may take 150 MB
            with unit_of_work(self._engine) as session:
                lesson = self._lesson(session, self._kept(session, source), each, lessons)
                require_enough(lesson)
                fit = self._prepared(session, self._kept(session, source), lesson, others)
            fitted.append(fit(precision))  # outside the transaction: it may take a while
            lessons.append(lesson.without_features())
            del lesson, fit
        reports = [report for _, report in fitted]
        if not apply:
            return Taught(reports, source.id, None, [], self.left_behind([lesson.name for lesson in lessons]))
        with unit_of_work(self._engine) as session:
            rows = [head_row(lesson, one, report, by) for lesson, (one, report) in zip(lessons, fitted, strict=True)]
            vocabulary_id = store(session, source, rows, lessons, reports, by)
            for lesson in lessons:
                for ids, is_present in zip(lesson.said, (True, False), strict=True):
                    if ids:
                        corrections.put(session, ids, [Said(lesson.name, lesson.name, is_present)], by)
            name = vocabularies.view(session, vocabulary_id).name
            # Also those that were taught meanwhile, by somebody who began from the same generation.
            warnings = left_behind(session, source, [lesson.name for lesson in lessons])
        if vocabulary_id == source.vocabulary_id:  # the same again: search uses it already
            return Taught(reports, source.id, name, [])
        jobs = self._jobs.retag(name, from_generation=source.id, skip_missing=True, by=by)
        return Taught(reports, source.id, name, jobs, warnings)

    def left_behind(self, taught: Sequence[str]) -> list[str]:
        """Return which tags a generation with these newly taught ones would not have, and what to do about each."""
        with unit_of_work(self._engine) as session:
            return left_behind(session, generations.default(session), taught)

    def said(self, tag: str) -> tuple[list[int], list[int]]:
        """Return the images that people said have a tag, and those that they said do not. All of them are learnt."""
        with unit_of_work(self._engine) as session:
            kept = self._kept(session)
            names = self._search.vocabulary(session, kept.source.vocabulary_id)
            tag_ids = names.ids(tag)
            return kept.said_before(names.names[tag_ids[0]] if tag_ids else tag)

    def forget_lost(self, files: Collection[str]) -> list[str]:
        """Forget what is kept in those of these files that are gone or damaged. Return their names."""
        return forget_lost(self._engine, FeatureFiles(self._index().store.place), files)

    def taught(self) -> list[TaughtTag]:
        """Return the tags that people taught, each as it was taught last, by name."""
        with unit_of_work(self._engine) as session:
            return teachings.taught(session)

    def suggest(self, tag: str, count: int = 12, *, yes: Sequence[int] = (), no: Sequence[int] = ()) -> Suggestions:
        """Return images to label next: those that are least certain, and differ from one another and the labelled ones.

        Args:
            tag: a tag, or a new name.
            count: how many.
            yes: images that are of this kind, beside those that people named before; one at least.
            no: images that are not.

        Raises:
            UsageError: no image is named, or one cannot be used.
        """
        return self.study(tag, count, yes=yes, no=no)[1]

    @_without_lost_files
    def study(
        self,
        tag: str,
        count: int,
        *,
        yes: Sequence[int] = (),
        no: Sequence[int] = (),
        precision: float = PRECISION,
        looked_at: int = LOOKED_AT,
    ) -> tuple[TeachReport | None, Suggestions]:
        """Return what a tag would be, fitted once, and the images to label next. See ``fit`` and ``suggest``.

        The report is None with fewer than ``LEAST`` pictures. ``looked_at``: among how many these are.
        """
        from ram_core.teaching.suggesting import suggest  # noqa: PLC0415  (loads torch)

        _require_precision(precision)
        with unit_of_work(self._engine) as session:
            kept = self._kept(session)
            lesson = self._lesson(session, kept, Wanted(tag, yes, no), ())
            if not lesson.yes:
                raise UsageError(f"name at least one image of {lesson.name!r} (--yes), to which others can be compared")
            others = kept.sample(SAMPLE)
            fit = self._prepared(session, kept, lesson, others)
        fitted, report = fit(precision) if len(lesson.yes) >= LEAST else (None, None)
        with unit_of_work(self._engine) as session:
            kept = self._kept(session, kept.source)
            found = suggest(_scored(kept, lesson, fitted, others, looked_at), kept.x(lesson.named.rows), count)
        short = LEAST - len(lesson.yes)
        suggestions = Suggestions(
            lesson.name,
            [ToLabel(one.image_id, round(one.score, 4)) for one in found],
            len(lesson.yes),
            len(lesson.no),
            fitted is None or fitted.helps,
            f"name {short} more to teach it" if fitted is None else _told(fitted),
        )
        return report, suggestions

    # Parts -----------------------------------------------------------------------------------------------------------

    def _kept(self, session: Session, source: Generation | None = None) -> KeptFeatures:
        serving = source or generations.default(session)
        if serving is None:
            raise UsageError("nothing is recorded yet; run `ramq enqueue SOURCE` first")
        return KeptFeatures(session, FeatureFiles(self._index().store.place), serving)

    def _lesson(self, session: Session, kept: KeptFeatures, wanted: Wanted, before: Sequence[Lesson]) -> Lesson:
        """Return what a tag is learnt of. ``before``: those that are taught together with it."""
        names = self._search.vocabulary(session, kept.source.vocabulary_id)
        lesson = lesson_of(kept, names, wanted, len(names.names) + sum(one.is_new for one in before))
        if any(one.name.lower() == lesson.name.lower() for one in before):
            raise UsageError(f"the tag {lesson.name!r} is given twice; give it once")
        return lesson

    def _prepared(
        self, session: Session, kept: KeptFeatures, lesson: Lesson, others: Block
    ) -> Callable[[float], tuple[Fitted, TeachReport]]:
        """Return what fits a tag to a precision. It needs the database no more."""
        tag = None
        is_own = lesson.tag_id not in kept.basis.mended
        taught_by: list[int] = []
        if not lesson.is_new:
            tag = vocabularies.tags(session, kept.source.vocabulary_id)[lesson.tag_id]
        if not is_own:
            [former] = [
                head for head in teachings.heads(session, kept.source.vocabulary_id) if head.tag_id == lesson.tag_id
            ]
            taught_by = [*former.yes, *former.no]
        unnamed = features.recorded(session, kept.source.id) - len(lesson.said[0]) - len(lesson.said[1])

        def fit_to(precision: float) -> tuple[Fitted, TeachReport]:
            from ram_core.errors import ModelError  # noqa: PLC0415  (loads torch)
            from ram_core.teaching.copies import groups_of  # noqa: PLC0415
            from ram_core.teaching.fitting import Examples, fit  # noqa: PLC0415
            from ram_core.teaching.heads import OWN_FLOORS, own_logit  # noqa: PLC0415

            began = time.monotonic()
            rows, labels, records = _examples(lesson, others)
            own, threshold = None, None
            if tag is not None:
                own = own_logit(scores_of(records, lesson.tag_id), OWN_FLOORS[kept.kind])
                threshold = float(own_logit(np.array([tag.threshold], dtype=np.float32), OWN_FLOORS[kept.kind])[0])
            near: Literal["pooled", "vector"] = "pooled" if kept.kind == "pooled" else "vector"
            described = self._described(kept.source, lesson, rows)
            x = kept.x(rows)
            groups = groups_of(contents_of(near, x, records), [one.sha256 for one in records], THRESHOLDS[near])
            seen = np.zeros(len(rows), dtype=np.bool_)
            seen[: len(lesson.named)] = np.isin(lesson.named.ids, taught_by)
            examples = Examples(
                x, labels, own, is_own=is_own, described=described, groups=groups, seen=seen, others=unnamed
            )
            try:
                fitted = fit(examples, precision=precision, tag_id=lesson.tag_id, own_threshold=threshold)
            except ModelError as error:
                raise UsageError(f"the tag {lesson.name!r} cannot be taught: {error}") from error
            return fitted, _report(lesson, fitted, precision, len(rows) - len(lesson.named), time.monotonic() - began)

        return fit_to

    def _described(self, source: Generation, lesson: Lesson, rows: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the scores of a new tag by its name alone, for the first rows; NaN for the rest; None: impossible."""
        if not lesson.is_new or self._by_name is None or len(lesson.named) + LEAST > MOST_DESCRIBED:
            return None
        found = self._by_name(source, lesson.name, rows[:MOST_DESCRIBED])
        if found is None:
            return None
        scores = np.full(len(rows), np.nan, dtype=np.float32)
        scores[: len(found)] = found
        return scores


def _require_precision(precision: float) -> None:
    if not 0.5 <= precision <= 0.99:
        raise UsageError(f"the precision is {precision:g}; choose one from 0.5 to 0.99")


def require_enough(lesson: Lesson) -> None:
    """Raise ``UsageError`` if a tag has too few pictures."""
    if (count := len(lesson.yes)) < LEAST:
        raise UsageError(
            f"the tag {lesson.name!r} needs {LEAST} pictures, and {count} "
            f"{'is' if count == 1 else 'are'} named; name {LEAST - count} more with --yes"
        )


def _examples(lesson: Lesson, others: Block) -> tuple[NDArray[np.uint8], NDArray[np.int8], list[Kept]]:
    """Return the features, labels and records of the named images, and of the others behind them."""
    from ram_core.teaching.logistic import NO, UNNAMED, YES  # noqa: PLC0415  (loads torch)

    unnamed = np.flatnonzero(~np.isin(others.ids, [*lesson.said[0], *lesson.said[1]]))
    labels = [np.where(lesson.is_yes, YES, NO), np.full(len(unnamed), UNNAMED)]
    rows = [lesson.named.rows, others.rows[unnamed]] if len(unnamed) else [lesson.named.rows]
    records = [*lesson.named.kept, *(others.kept[i] for i in unnamed)]
    return np.concatenate(rows), np.concatenate(labels).astype(np.int8), records


def _scored(
    kept: KeptFeatures, lesson: Lesson, fitted: Fitted | None, others: Block, most: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
    """Yield ids, inputs and logits, 0 at the threshold, of the images that nobody named."""
    from ram_core.teaching.heads import OWN_FLOORS, own_logit  # noqa: PLC0415  (loads torch)
    from ram_core.teaching.logistic import YES, regress  # noqa: PLC0415

    head = fitted.head if fitted is not None and fitted.head.is_linear else None
    if head is None:  # too few pictures for a threshold: the named ones are above it
        rows, labels, _ = _examples(lesson, others)
        x = kept.x(rows)
        made = regress(x, labels)
        level = float((x[labels == YES] @ made[:-1]).min())
    for block in kept.blocks(most, [*lesson.said[0], *lesson.said[1]]):
        if not len(block):
            continue
        x = kept.x(block.rows)
        if head is None:
            yield block.ids, x, (x @ made[:-1] - level).astype(np.float32)
        else:
            own = own_logit(scores_of(block.kept, lesson.tag_id), OWN_FLOORS[kept.kind])
            yield block.ids, x, head.logits(x, own)


def _report(lesson: Lesson, fitted: Fitted, precision: float, unnamed: int, seconds: float) -> TeachReport:
    return TeachReport(
        tag=lesson.name,
        is_new=lesson.is_new,
        method=fitted.head.method,
        threshold=round(fitted.threshold, 4),
        asked=precision,
        is_reached=fitted.is_reached,
        yes=len(lesson.yes),
        no=len(lesson.no),
        left_out=lesson.left_out,
        unnamed=unnamed,
        before=fitted.before,
        after=fitted.after,
        ways=tuple(Way(each.method, each.measure) for each in fitted.candidates),
        gain=fitted.gain,
        helps=fitted.helps,
        advice=_told(fitted),
        seconds=round(seconds, 2),
    )


def _told(fitted: Fitted) -> str:
    return fitted.advice if fitted.helps else f"{fitted.advice}; more pictures would hardly change the order of images"
