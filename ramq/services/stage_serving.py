"""Which results of a stage search uses, in words: what it leaves aside, and what changes when others are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.results import crops, generations, metadata, partitions, readings, regions, vocabularies
from storage.results.spaces import SPACES
from storage.tables import RECOGNITION, Generation
from storage.texts import plural

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.stages import StageGeneration

_RESULTS = {
    readings.STAGE: "the text in {}",
    regions.STAGE: "the regions in {}",
    crops.STAGE: "the vectors of the regions in {}",
    **dict.fromkeys(SPACES, "the vectors of {}"),
    metadata.STAGE: "what the files of {} say",
}
"""What a stage makes of images."""


@dataclass(frozen=True, slots=True)
class About:
    """What dropping a generation does, in words.

    Attributes:
        question: whether to do it.
        stage: the generation's.
        then: what search uses afterwards; empty if that does not change.
    """

    question: str
    stage: str
    then: str


def results(stage: str, images: int) -> str:
    """Return what a further stage has made of some images, for example ``the vectors of 60 images``."""
    return _RESULTS[stage].format(plural(images, "image"))


def _named(generation: StageGeneration) -> str:
    return f"generation {generation.id} ({generation.stage}, {generation.model})"


def _results(generation: StageGeneration) -> str:
    return results(generation.stage, generation.images)


def after_use(chosen: StageGeneration, before: StageGeneration | None) -> str:
    """Return what search uses once a generation was chosen, and which images it no longer has."""
    said = f"Search now uses {_named(chosen)}: {_results(chosen)}."
    if before is not None and before.id != chosen.id and before.images > chosen.images:
        said += (
            f" Generation {before.id}, which it used before, has {_results(before)}. `ramq stages use {before.id}` "
            "returns to it."
        )
    return said


def about_drop(asked: StageGeneration, others: list[StageGeneration]) -> About:
    """Return what dropping a generation does. ``others``: of its stage, oldest first."""
    used, then = "", ""
    if asked.stage == regions.STAGE:
        then = "Search uses the newest regions that are left of each image." if others else ""
    elif asked.is_default:
        used = ", which search uses"
        then = (
            f"Search uses {_named(others[-1])} then: {_results(others[-1])}."
            if others
            else (f"Search has no other results of {asked.stage}.")
        )
    return About(f"{then} Erase {_results(asked)} of {_named(asked)}{used}?".lstrip(), asked.stage, then)


def unused(session: Session, stage: str, generation_id: int | None, model: str) -> str | None:
    """Return what to do so that search uses results which it leaves aside; None: it uses them.

    Args:
        session: a transaction.
        stage: the stage.
        generation_id: the generation of the results; None: new jobs will begin one.
        model: what makes them.
    """
    used = generations.default(session, stage)
    if stage == regions.STAGE or used is None or used.id == generation_id:
        return None
    own = None if generation_id is None else session.get(Generation, generation_id)
    if own is not None and own.dropped_at is not None:
        return None
    verb = "ramq generations use" if stage == RECOGNITION else "ramq stages use"
    if own is None:
        remedy = (
            f"New results of {model} get a generation of their own. `{verb} NUMBER` makes search use it; "
            f"`{verb.removesuffix(' use')}` shows its number once a job has begun."
        )
    else:
        place = f"generation {_counted(session, own)}"
        remedy = f"Those of {_maker(session, own)} are in {place}: `{verb} {own.id}` makes search use it."
    maker = _maker(session, used)
    return f"For {stage}, search uses the results of {maker}, generation {_counted(session, used)}. {remedy}"


def _maker(session: Session, generation: Generation) -> str:
    """Return the model, of recognition with its vocabulary, since a taught one has the model of the former."""
    if generation.stage != RECOGNITION:
        return generation.model
    return f"{generation.model} with the vocabulary {vocabularies.view(session, generation.vocabulary_id).name}"


def _counted(session: Session, generation: Generation) -> str:
    images = partitions.results(session, generation.stage, generation.id)
    return f"{generation.id} with {plural(images, 'image')}"
