"""The phase ``cluster`` of cleaning: what becomes of a tag in each of its pictures. A task is a tag.

The decisions are those of ``ram_core.cleaning``. Labels that were dropped before stay as they are, and those that a
person confirmed are never dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.cleaning import CleaningSettings, TagRegions, clean_tag, out_of_fold_scores
from ram_core.errors import CleaningError
from storage.database import unit_of_work
from storage.datasets import labels, tag_regions
from storage.errors import UsageError
from storage.results import policies
from workers.datasets import scale
from workers.datasets.judge import Judge
from workers.datasets.phase import Phase
from workers.datasets.pictures import Pictures
from workers.datasets.regions_of_tag import Found, Tag, of_located, of_whole
from workers.datasets.spool import Spool
from workers.pipeline.tags import tag_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.cleaning import CleanedTag, FeatureScale
    from storage.datasets.labels import Label
    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.judge import Question
    from workers.datasets.phase import Tools, Write

NAME = "cluster"
PAGE = 5_000
"""Labels that are written at once."""

_HEAD_THRESHOLD = 0.5
"""Of a head in which pictures with and without the tag weigh the same."""


@dataclass(frozen=True, slots=True)
class _Context:
    """What all tags of a version need."""

    settings: CleaningSettings
    scale: FeatureScale | None
    generation_id: int | None
    no_things: Mapping[int | None, frozenset[str]]
    judge: Judge | None
    pictures: Pictures | None
    # Of whole pictures: a sample of all, among which are those without a tag.
    sample_ids: NDArray[np.int64]
    sample: NDArray[np.float32]


class ClusterPhase(Phase):
    """Cleans each tag."""

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """Return the tags, those with the most pictures first."""
        assert version.parent_id is not None
        tags = tag_regions.tags_of(session, version.parent_id)
        return [{"tag": tag_id, "name": name} for tag_id, name, _ in tags]

    def run(self, tools: Tools, version: VersionView, task: Task) -> Write:
        """Decide about a tag."""
        assert version.parent_id is not None
        tag = Tag(version.parent_id, task.input["tag"], task.input["name"])
        context = _context(tools, version)
        try:
            decided = _decide(tools, context, tag)
        except CleaningError as error:
            raise UsageError(f"the tag {tag.name!r} cannot be cleaned: {error}") from error

        # Pictures cannot be corrected or deleted while a transaction writes their labels, so it writes a page.
        after: int | None = 0
        counts = Counter[str]()
        while after is not None:
            with tools.page(task) as session:
                page = labels.of_tag(session, tag.version_id, tag.id, after=after, limit=PAGE)
                labels.put(session, version.id, [decided.label(label, counts) for label in page])
            after = page[-1].image_id if len(page) == PAGE else None
        return lambda _session: decided.result(tag, counts)


def _context(tools: Tools, version: VersionView) -> _Context:
    if NAME not in tools.cached:
        tools.cached[NAME] = _load(tools, version)
    context: _Context = tools.cached[NAME]
    return context


def _load(tools: Tools, version: VersionView) -> _Context:
    settings = CleaningSettings.from_json(version.settings["cleaning"])
    with unit_of_work(tools.engine) as session:
        measured = scale.of(session, version)
        if settings.regions == "located":
            generation_id = scale.crops_generation(session, version)
            vocabulary_id = None if generation_id is None else tag_regions.recogniser_vocabulary(session, generation_id)
            judge = None if vocabulary_id is None else Judge(tag_vocabulary(session, vocabulary_id))
            nothing = np.empty(0, np.int64), np.empty((0, 0), np.float32)
            return _Context(settings, measured.scale, generation_id, policies.no_things(session), judge, None, *nothing)
    source = Pictures(tools, version.settings["generation_id"], measured.kind)  # type: ignore[arg-type]
    ids, rows = source.read(measured.sample)
    return _Context(settings, measured.scale, None, {}, None, source, np.array(ids, np.int64), rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Decided:
    """What was decided about a tag. ``skipped`` says why nothing, or not everything, was."""

    found: Found
    cleaned: CleanedTag | None
    skipped: str | None
    generation_id: int | None

    def label(self, label: Label, counts: Counter[str]) -> Label:
        """Return a label of the parent as the new version has it. Count what became of it."""
        if label.reason is not None:
            counts["already_dropped"] += 1
            return label
        counts["labels"] += 1
        at = self._verdict(label.image_id)
        if self.cleaned is None or at is None:
            return label
        images = self.cleaned.images
        reason, certainty = images.reasons[at], float(images.certainty[at])
        if reason is not None and label.image_id in self.found.said:
            counts["confirmed_by_people"] += 1
            reason, certainty = None, 1.0  # not that of dropping it
        if reason is not None:
            counts[reason.value] += 1
        return replace(
            label,
            reason=None if reason is None else reason.value,
            certainty=round(certainty, 4),
            evidence={**(label.evidence or {}), **self._evidence(int(images.region[at]))},
        )

    def _verdict(self, image_id: int) -> int | None:
        if self.cleaned is None:
            return None
        ids = self.cleaned.images.image_ids
        at = int(np.searchsorted(ids, image_id))
        return at if at < len(ids) and ids[at] == image_id else None

    def _evidence(self, region: int) -> dict[str, Any]:
        """Return on what the verdict was made: a region, its place, its cluster, and how it was seen."""
        if self.cleaned is None or region < 0:
            return {}
        measured, score = self.cleaned.regions, float(self.found.scores[region])
        place = {} if self.generation_id is None else {"crops": self.generation_id} | self._place(region)
        return place | {
            "cluster": int(measured.cluster[region]),
            "distance": round(float(measured.distance[region]), 4),
            "rank": round(float(measured.rank[region]), 4),
            "seen": None if np.isnan(score) else round(score, 4),
        }

    def _place(self, region: int) -> dict[str, Any]:
        box = [round(float(number), 4) for number in self.found.boxes[region]]
        return {"region": int(self.found.numbers[region]), "box": box}

    def result(self, tag: Tag, counts: Counter[str]) -> dict[str, Any]:
        """Return what the task did: ``labels`` are ``kept`` and ``dropped`` ones."""
        dropped = {reason: counts[reason] for reason in labels.REASONS if counts[reason]}
        regions = None if self.cleaned is None else self.cleaned.regions
        typical = () if regions is None else regions.typical.tolist()
        return {
            "tag": tag.id,
            "name": tag.name,
            "labels": counts["labels"],
            "kept": counts["labels"] - sum(dropped.values()),
            "dropped": dropped,
            "already_dropped": counts["already_dropped"],
            "confirmed_by_people": counts["confirmed_by_people"],
            "not_looked_at": self.found.not_looked_at,
            "regions": len(self.found.image_ids),
            "asked": int(np.count_nonzero(~np.isnan(self.found.scores))),
            "clusters": 0 if regions is None else len(regions.centres),
            "skipped": self.skipped,
            "typical": [{"image_id": int(self.found.image_ids[i])} | self._place(i) for i in typical],
        }


def _decide(tools: Tools, context: _Context, tag: Tag) -> _Decided:
    with Spool(tools.go_on) as spool:
        if context.pictures is not None:
            found = of_whole(tools, tag, context.pictures, spool)
            threshold = _HEAD_THRESHOLD
        else:
            question = _question(context, tag)
            found = of_located(tools, tag, context.generation_id or 0, question, context.no_things, spool)
            threshold = _HEAD_THRESHOLD if question is None else question.threshold
        if not len(found.image_ids):
            is_no_thing = tag.name.lower() in context.no_things.get(None, ())
            return _Decided(found, None, "no_thing" if is_no_thing else "found_nowhere", context.generation_id)
        if context.pictures is not None and context.settings.contradiction:
            others = _without(tools, context, tag)
            scores = out_of_fold_scores(spool, spool.count, others, context.settings, context.scale)
            found = replace(found, scores=scores)
        regions = TagRegions(spool, found.image_ids, found.scores, found.labelled)
        cleaned = clean_tag(regions, context.settings, threshold=threshold, scale=context.scale)
    too_few = len(found.image_ids) < context.settings.min_regions
    return _Decided(found, cleaned, "too_few_regions" if too_few else None, context.generation_id)


def _question(context: _Context, tag: Tag) -> Question | None:
    """Return what to ask about the regions of a tag; None: no model here knows it, or nothing is to be asked."""
    if context.judge is None or not context.settings.contradiction:
        return None
    asked, limit = context.judge.about(tag.name), context.settings.threshold
    # What the model did not assign must be below the threshold that was asked for, too.
    return asked if asked is None or limit is None else asked.below(limit)


def _without(tools: Tools, context: _Context, tag: Tag) -> NDArray[np.float32]:
    """Return the features of those pictures of the sample that do not have a tag, not even one that was dropped."""
    with unit_of_work(tools.engine) as session:
        having = tag_regions.having(session, tag.version_id, tag.id, context.sample_ids.tolist())
    rows: NDArray[np.float32] = context.sample[~np.isin(context.sample_ids, having)]
    return rows
