"""A made-up archive with all that a search can ask for, beside plain dictionaries that say what must be found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import jobs
from storage.objects.base import ObjectInfo
from storage.objects.source import parse_source
from storage.results import archives, corrections, erasures, generations, images, policies, records
from storage.results.corrections import Said
from storage.results.generations import GenerationSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance, RecordRow
from storage.search.language import AllOf, AnyOf, FieldTerm, NotOf, TagTerm
from storage.search.views import SearchQuery
from storage.tables import PERSON_UNITS, SCORE_SCALE
from tests.archive_words import (
    ARCHIVE_SPELLINGS,
    ARCHIVES,
    DATES,
    DAY,
    KEYS,
    SIZES,
    SPELLINGS,
    VOCABULARIES,
    moment,
)  # fmt: skip
from tests.vector_archive import SIZE, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from storage.search.language import Expression


@dataclass
class Fact:
    """What a listing told of an image."""

    archive: int
    key: str
    size: int
    modified_at: datetime | None


@dataclass(frozen=True)
class Result:
    """What a generation made of it."""

    tags: dict[int, int]
    vector: NDArray[np.float32]
    job_id: int


class ArchiveModel:
    """Images of three archives, results of two generations; each change is made in the database and in plain Python."""

    def __init__(self, engine: Engine, images_of_each: int = 60, seed: int = 0) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        self.facts: dict[int, Fact] = {}
        self.results: list[dict[int, Result]] = [{}, {}]
        self.jobs: list[list[int]] = [[], []]
        # What people said: whether an image has the tag of this name, whatever the generation.
        self.said: dict[int, dict[str, bool]] = {}
        # Which tags count: by archive (None: all) and name, what is allowed or denied.
        self.rules: dict[tuple[int | None, str], str] = {}
        with unit_of_work(engine) as session:
            self.archives = [archives.ensure(session, parse_source(uri))[0] for uri in ARCHIVES]
            self.generations = [
                generations.ensure(session, GenerationSpec(spec.sha256, "lite", "", "", "", SIZE), spec)
                for spec in VOCABULARIES
            ]
            for generation, generation_id in enumerate(self.generations):
                for archive in self.archives:
                    job_id = jobs.create(
                        session,
                        archive=archive,
                        source=archive.uri,
                        prefix="",
                        model="lite",
                        captioner="none",
                        priority="normal",
                    )
                    session.execute(
                        text("UPDATE job SET generation_id = :generation WHERE id = :id"),
                        {"generation": generation_id, "id": job_id},
                    )
                    self.jobs[generation].append(job_id)
        for number in range(len(ARCHIVES)):
            self.list_again(number, [KEYS[n % len(KEYS)].format(n=n) for n in range(images_of_each)])

    # Changes ----------------------------------------------------------------------------------------------------------

    def list_again(self, archive: int, keys: Sequence[str]) -> None:
        """Let a listing find these keys, with other sizes and dates than before."""
        listed = [
            ObjectInfo(key, str(self.rng.integers(2**40)), self._size(), self._moment()) for key in sorted(set(keys))
        ]
        with unit_of_work(self.engine) as session:
            images.upsert_page(session, self.archives[archive].id, listed)
            rows = session.execute(
                text("SELECT id, key FROM image WHERE archive_id = :id"), {"id": self.archives[archive].id}
            ).all()
        told = {info.key: info for info in listed}
        for row in rows:
            if info := told.get(row.key):
                self.facts[row.id] = Fact(archive, row.key, info.size_bytes, info.modified_at)

    def record(self, generation: int, image_ids: Sequence[int], *, has_new_vectors: bool = True) -> None:
        """Let a job record these images, as a worker writes a batch."""
        job_id = int(self.rng.choice(self.jobs[generation]))
        held = self.results[generation]
        made = {
            image_id: Result(
                self._tags(generation),
                unit_vectors(1, self.rng)[0] if has_new_vectors else held[image_id].vector,
                job_id,
            )
            for image_id in image_ids
        }
        rows = [
            RecordRow(
                image_id,
                "1",
                sorted(result.tags),
                [result.tags[tag] for tag in sorted(result.tags)],
                f"image {image_id}",
                10,
                10,
                pack_vectors(result.vector[np.newaxis])[0],
            )
            for image_id, result in made.items()
        ]
        with unit_of_work(self.engine) as session:
            records.write_records(session, rows, Provenance(job_id, self.generations[generation], "none"))
        held.update(made)

    def delete(self, image_ids: Sequence[int]) -> None:
        """Delete images, as a person does."""
        with unit_of_work(self.engine) as session:
            erasures.erase(session, image_ids)
        for image_id in image_ids:
            del self.facts[image_id]
            self.said.pop(image_id, None)
            for held in self.results:
                held.pop(image_id, None)

    def correct(self, image_ids: Sequence[int]) -> None:
        """Let a person say something of a tag of these images, or take it back."""
        name = str(self.rng.choice(["dog", "Cat", "beach", "red boat", "sea", "people"]))
        kind = int(self.rng.integers(3))
        with unit_of_work(self.engine) as session:
            if kind == 2:
                corrections.reset(session, image_ids, [name])
            else:
                corrections.put(session, image_ids, [Said(name, name, is_present=kind == 1)], "ann")
        for image_id in image_ids:
            said = self.said.setdefault(image_id, {})
            if kind == 2:
                said.pop(name.lower(), None)
            else:
                said[name.lower()] = kind == 1

    def rule(self) -> None:
        """Let somebody allow or deny a tag, in an archive or in all, or take back all that was said of it there."""
        name = str(self.rng.choice(["dog", "Cat", "beach", "red boat"]))
        archive = [None, 0, 1][int(self.rng.integers(3))]
        archive_id = None if archive is None else self.archives[archive].id
        kind = [None, None, "allow", "deny"][int(self.rng.integers(4))]
        with unit_of_work(self.engine) as session:
            if kind is None:
                was_there = policies.clear(session, name, archive_id)
                assert was_there == (self.rules.pop((archive, name.lower()), None) is not None)
            else:
                policies.put(session, name, kind, archive_id, "ann")
                self.rules[archive, name.lower()] = kind

    def some(self, among: Iterable[int], share: float) -> list[int]:
        """Return some of these ids."""
        return [int(image_id) for image_id in among if self.rng.random() < share]

    def _tags(self, generation: int) -> dict[int, int]:
        count = len(VOCABULARIES[generation].names)
        chosen = np.flatnonzero(self.rng.random(count) < 0.5).tolist()
        # Few values, so that many images have equal scores and thresholds are met exactly.
        return {tag: int(self.rng.choice([2000, 3000, 5000, 5001, 6800, 7001, 10_000])) for tag in chosen}

    def _size(self) -> int:
        return int(self.rng.choice([999, 1000, 1024, 1_500_000, 3_000_000, 10**10]))

    def _moment(self) -> datetime | None:
        hours = int(self.rng.integers(0, 100))
        return None if hours < 15 else DAY + timedelta(hours=hours)

    def tags(self, generation: int, image_id: int) -> dict[int, int]:
        """Return the tags of an image with their scores, as people corrected them."""
        found = dict(self.results[generation][image_id].tags)
        said = self.said.get(image_id, {})
        for tag, name in enumerate(VOCABULARIES[generation].names):
            match said.get(name.lower()):
                case True:
                    found[tag] = PERSON_UNITS
                case False:
                    found.pop(tag, None)
        return found

    def tags_that_count(self, generation: int, image_id: int) -> dict[int, int]:
        """Return ``tags`` less those that do not count in the image's archive."""
        here = [
            (name, kind)
            for (archive, name), kind in self.rules.items()
            if archive is None or archive == self.facts[image_id].archive
        ]
        allowed = {name for name, kind in here if kind == "allow"}
        denied = {name for name, kind in here if kind == "deny"}
        names = [name.lower() for name in VOCABULARIES[generation].names]
        return {
            tag: units
            for tag, units in self.tags(generation, image_id).items()
            if names[tag] not in denied and (not allowed or names[tag] in allowed)
        }

    # What must be found -----------------------------------------------------------------------------------------------

    def matching(self, generation: int, query: SearchQuery) -> list[int]:
        """Return the ids of the images that match, ascending."""
        return [image_id for image_id in sorted(self.results[generation]) if self._matches(generation, image_id, query)]

    def by_tags(self, generation: int, query: SearchQuery) -> list[tuple[int, float]]:
        """Return (id, score) of the images that match, best first."""
        terms = [SPELLINGS[generation][name] for name in query.tags]
        if query.any_tags:
            terms.append(tuple(tag for name in query.any_tags for tag in SPELLINGS[generation][name]))
        if query.where is not None:
            terms += self._terms(generation, query.where)

        def score(image_id: int) -> float:
            tags = self.tags(generation, image_id)
            best = sum(min(SCORE_SCALE, max(tags.get(tag, 0) for tag in term)) for term in terms)
            return best / (SCORE_SCALE * len(terms)) if terms else 0.0

        scored = [(image_id, score(image_id)) for image_id in self.matching(generation, query)]
        return sorted(scored, key=lambda hit: (-hit[1], -hit[0]))

    def nearest(self, generation: int, query: SearchQuery, vector: NDArray[np.float32]) -> list[int]:
        """Return the ids of the images that match, the most similar first."""
        found = [image_id for image_id in self.matching(generation, query) if image_id != query.like]
        if not found:
            return []
        scores = np.stack([self.results[generation][image_id].vector for image_id in found]) @ vector
        return [found[place] for place in np.lexsort((found, -scores))]

    def facets(self, generation: int, query: SearchQuery) -> dict[int, int]:
        """Return how many of the images that match have each tag assigned."""
        counts: dict[int, int] = {}
        for image_id in self.matching(generation, query):
            for tag, units in self.tags_that_count(generation, image_id).items():
                if units > self.units(generation, tag, query.threshold):
                    counts[tag] = counts.get(tag, 0) + 1
        return counts

    def units(self, generation: int, tag: int, threshold: float | None) -> int:
        """Return above which score a tag is assigned."""
        own = VOCABULARIES[generation].thresholds[tag]
        return round((own if threshold is None else threshold) * SCORE_SCALE)

    def _has(self, generation: int, image_id: int, name: str, threshold: float | None) -> bool:
        tags = self.tags_that_count(generation, image_id)
        return any(tags.get(tag, 0) > self.units(generation, tag, threshold) for tag in SPELLINGS[generation][name])

    def _matches(self, generation: int, image_id: int, query: SearchQuery) -> bool:
        fact = self.facts[image_id]

        def has(name: str) -> bool:
            return self._has(generation, image_id, name, query.threshold)

        return (
            all(map(has, query.tags))
            and (not query.any_tags or any(map(has, query.any_tags)))
            and not any(map(has, query.not_tags))
            and (query.archive is None or self._is_in(fact, query.archive))
            and (query.prefix is None or fact.key.startswith(query.prefix))
            and (query.job is None or self.results[generation][image_id].job_id == query.job)
            and (query.where is None or self._holds(generation, image_id, query.where, query.threshold))
        )

    def _holds(self, generation: int, image_id: int, tree: Expression, threshold: float | None) -> bool:
        match tree:
            case AllOf(parts):
                return all(self._holds(generation, image_id, part, threshold) for part in parts)
            case AnyOf(parts):
                return any(self._holds(generation, image_id, part, threshold) for part in parts)
            case NotOf(part):
                return not self._holds(generation, image_id, part, threshold)
            case TagTerm(name, above):
                return self._has(generation, image_id, name, threshold if above is None else above)
            case FieldTerm():
                return self._meets(generation, image_id, tree)

    def _meets(self, generation: int, image_id: int, term: FieldTerm) -> bool:
        fact = self.facts[image_id]
        met = {
            "archive": lambda: self._is_in(fact, term.value),
            "prefix": lambda: fact.key.startswith(term.value),
            "job": lambda: self.results[generation][image_id].job_id == int(term.value),
            "after": lambda: fact.modified_at is not None and fact.modified_at >= moment(term.value),
            "before": lambda: fact.modified_at is not None and fact.modified_at < moment(term.value),
            "larger": lambda: fact.size >= SIZES[term.value],
            "smaller": lambda: fact.size < SIZES[term.value],
        }
        return bool(met[term.name]())

    def _is_in(self, fact: Fact, text: str) -> bool:
        archive, prefix = ARCHIVE_SPELLINGS[text]
        return fact.archive == archive and fact.key.startswith(prefix)

    def _terms(self, generation: int, tree: Expression) -> list[tuple[int, ...]]:
        match tree:
            case AllOf(parts):
                return [term for part in parts for term in self._terms(generation, part)]
            case AnyOf(parts):
                either = [tag for part in parts for term in self._terms(generation, part) for tag in term]
                return [tuple(either)] if either else []
            case TagTerm(name):
                return [SPELLINGS[generation][name]]
            case _:
                return []

    # Queries ----------------------------------------------------------------------------------------------------------

    def a_query(self, generation: int) -> SearchQuery:
        """Return any query of a generation."""
        names = list(SPELLINGS[generation])

        def maybe(values: Sequence[Any], chance: float) -> Any:
            return values[int(self.rng.integers(len(values)))] if self.rng.random() < chance else None

        def few(chance: float) -> tuple[str, ...]:
            return tuple(self.rng.choice(names, size=2).tolist()) if self.rng.random() < chance else ()

        return SearchQuery(
            tags=few(0.2),
            any_tags=few(0.2),
            not_tags=few(0.15),
            archive=maybe(list(ARCHIVE_SPELLINGS), 0.2),
            prefix=maybe(["2024/", "2023", "é", "20%", "z", "none"], 0.15),
            job=maybe(self.jobs[generation], 0.15),
            threshold=maybe([0.0, 0.5, 0.5001, 0.9, 1.0], 0.3),
            limit=int(self.rng.choice([1, 7, 40, 500])),
            where=self._tree(generation, 3) if self.rng.random() < 0.6 else None,
            generation=self.generations[generation],
        )

    def _tree(self, generation: int, depth: int) -> Expression:
        kind = self.rng.random()
        if depth and kind < 0.5:
            parts = tuple(self._tree(generation, depth - 1) for _ in range(int(self.rng.integers(1, 4))))
            return AllOf(parts) if kind < 0.25 else AnyOf(parts)
        if depth and kind < 0.6:
            return NotOf(self._tree(generation, depth - 1))
        if kind < 0.8:
            above = [None, 0.5, 0.68, 0.9999][int(self.rng.integers(4))]
            return TagTerm(str(self.rng.choice(list(SPELLINGS[generation]))), above)
        return [
            FieldTerm("archive", str(self.rng.choice(list(ARCHIVE_SPELLINGS)))),
            FieldTerm("prefix", str(self.rng.choice(["2024/", "é"]))),
            FieldTerm("job", str(self.rng.choice(self.jobs[generation]))),
            FieldTerm("after", str(self.rng.choice(DATES))),
            FieldTerm("before", str(self.rng.choice(DATES))),
            FieldTerm("larger", str(self.rng.choice(list(SIZES)))),
            FieldTerm("smaller", str(self.rng.choice(list(SIZES)))),
        ][int(self.rng.integers(7))]
