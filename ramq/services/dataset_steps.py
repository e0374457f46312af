"""The data engine: steps that make the next version of a data set from captions and tags of models, and clean it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramq.services import stage_models
from ramq.services.author import LOCAL
from ramq.services.job_wishes import features_of
from storage.database import unit_of_work
from storage.datasets import generated, tasks, versions
from storage.errors import UsageError
from storage.ledger import workers
from storage.results import generations
from workers.messages import ANY_MODEL, MODEL_NAME, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.versions import VersionView

CAPTIONERS = ("tag2text", "none")
"""Authors of generated captions. Those that are composed from tags would add nothing."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The defaults of steps.

    Attributes:
        model: of recognition, as long as nothing is recorded.
        captioner: of new jobs of recognition.
        features: the features that new jobs keep.
        stage_models: the model of each further stage.
        models_dir: the folder of checkpoints.
    """

    model: str
    captioner: str
    features: str
    stage_models: Mapping[str, str]
    models_dir: Path


class DatasetStepClient:
    """Generates and cleans labels of data sets. Thread-safe. Every method is one transaction.

    Args:
        engine: the database.
        options: the defaults.
    """

    def __init__(self, engine: Engine, options: EngineOptions) -> None:
        self._engine = engine
        self._options = options

    def generate(
        self, name: str, *, model: str | None = None, captioner: str | None = None, said_by: str = LOCAL
    ) -> VersionView:
        """Begin a step that adds captions and tags of a model to every picture of the newest version.

        Pictures that the model has not recognised yet are recognised first, by a job for each archive.

        Args:
            name: of the data set, or ``name@number`` for another version.
            model: a model of recognition; None: the one that serves search, with the vocabulary that it serves with.
            captioner: ``tag2text``, or ``none`` for tags only; None: as in the settings.
            said_by: who asks.

        Raises:
            NotFoundError: there is no such data set, or none of its versions is done.
            UsageError: there is no such model or captioner, or they do not fit each other.
            ConflictError: another step of the data set has not ended.
        """
        if model is not None and not re.fullmatch(MODEL_NAME, model):
            raise UsageError(f"unknown model {model!r}; choose one of {', '.join(ANY_MODEL)}, or a trained one")
        with unit_of_work(self._engine) as session:
            parent = versions.find(session, name)
            chosen = generated.recogniser(session, model, self._options.model)
            writes = self._captioner(captioner, chosen.model)
            settings = {
                **chosen._asdict(),
                "captioner": writes,
                "features": features_of(chosen.model, self._options.features),
            }
            return self._begin(session, parent, "generate", "jobs", settings, said_by)

    def clean(
        self,
        name: str,
        *,
        detector: str | None = None,
        recogniser: str | None = None,
        said_by: str = LOCAL,
        **cleaning: Any,
    ) -> VersionView:
        """Begin a step that drops tags of pictures whose regions are outliers, or contradict them, or are not there.

        Args:
            name: of the data set, or ``name@number`` for another version.
            detector: a model of the stage ``locate``; None: the one in the settings.
            recogniser: a model of the stage ``crops``; None: the one in the settings.
            said_by: who asks.
            **cleaning: fields of ``ram_core.cleaning.CleaningSettings``. ``regions`` is ``located`` by default where a
                live worker has the detector's weights, else ``whole``.

        Raises:
            NotFoundError: there is no such data set, or none of its versions is done.
            UsageError: a setting is out of its range, a model is unknown or lacking, or nothing is recorded.
            ConflictError: another step of the data set has not ended.
        """
        from ram_core.cleaning import CleaningSettings  # noqa: PLC0415  (few calls need it)
        from ram_core.errors import CleaningError  # noqa: PLC0415

        of_regions = {"detector": detector, "recogniser": recogniser} | {
            name: cleaning.get(name) for name in ("no_region", "several_regions")
        }
        detector = detector or self._options.stage_models["locate"]
        recogniser = recogniser or self._options.stage_models["crops"]
        for stage, model in (("locate", detector), ("crops", recogniser)):
            stage_models.require(stage, model, self._options.models_dir)
        with unit_of_work(self._engine) as session:
            parent = versions.find(session, name)
            asked = {key: value for key, value in cleaning.items() if value is not None}
            if "regions" not in asked:
                asked["regions"] = "located" if _can_locate(session, detector) else "whole"
            try:
                settings = CleaningSettings.from_json(asked)
            except CleaningError as error:
                raise UsageError(str(error)) from error
            chosen: dict[str, Any] = {"cleaning": settings.as_json(), "generation_id": None}
            if settings.regions == "located":
                chosen |= {"detector": detector, "recogniser": recogniser}
            elif idle := [name for name, value in of_regions.items() if value is not None]:
                why = (
                    "regions are whole"
                    if cleaning.get("regions")
                    else (f"no worker that is alive finds regions with {detector}, so each picture is its own region")
                )
                raise UsageError(f"{', '.join(idle)} would do nothing: {why}; leave it out, or choose regions located")
            else:
                serving = generations.default(session)
                if serving is None:
                    raise UsageError("nothing is recorded yet, so pictures have no features; run `ramq enqueue SOURCE`")
                chosen["generation_id"] = serving.id
            return self._begin(session, parent, "clean", "items", chosen, said_by)

    def cleaned_tags(self, name: str) -> list[dict[str, Any]]:
        """Return what cleaning did to each tag of a version, those with the most pictures first.

        Of each: ``tag``, ``name``, ``labels`` (``kept`` and ``dropped`` by reason), ``regions``, ``clusters``,
        ``skipped`` and ``typical`` regions. ``workers.datasets.cluster`` has the rest.

        Raises:
            NotFoundError: there is no such version.
            UsageError: its step was another one.
        """
        with unit_of_work(self._engine) as session:
            version = versions.find(session, name)
            _require_step(version, "clean")
            return tasks.results(session, version.id, "cluster")

    def lacking(self, version: VersionView) -> str | None:
        """Return what to do about the weights of the model of a step `generate`, if no live worker has them."""
        with unit_of_work(self._engine) as session:
            alive = workers.views(session)
        model = version.settings["model"]
        if (told := stage_models.lacking_recogniser(model, self._options.models_dir, alive)) is None:
            return None
        return f"{told} Pictures that it has not recognised yet wait until then."

    def _captioner(self, asked: str | None, model: str) -> str:
        has_tag2text = kind_of(model) != "lite"
        if asked is None:
            return "tag2text" if self._options.captioner == "tag2text" and has_tag2text else "none"
        if asked not in CAPTIONERS:
            raise UsageError(
                f"unknown captioner {asked!r}; choose one of {', '.join(CAPTIONERS)}: sentences that are composed from "
                "tags would add nothing"
            )
        if asked == "tag2text" and not has_tag2text:
            raise UsageError("the captioner tag2text works only with ram and ram_plus; choose none for lite")
        return asked

    @staticmethod
    def _begin(
        session: Session, parent: VersionView, step: versions.Step, phase: str, settings: dict[str, Any], said_by: str
    ) -> VersionView:
        version_id = versions.begin(
            session,
            parent.dataset_id,
            step=step,
            phase=phase,
            settings=settings,
            parent_id=parent.id,
            said_by=said_by,
        )
        return versions.view(session, version_id)


def _require_step(version: VersionView, step: versions.Step) -> None:
    if version.step != step:
        raise UsageError(f"version {version.number} of {version.name} was made by {version.step}, not {step}")


def _can_locate(session: Session, detector: str) -> bool:
    """Return whether a live worker locates tags and has the weights for it."""
    parts = set(detector.split("+"))
    return any(w.is_alive and "locate" in w.runs and parts <= set(w.weights) for w in workers.views(session))
