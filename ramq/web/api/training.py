"""Trainings under ``/v1``: how they go, read from their folders."""

from typing import Annotated

from fastapi import APIRouter, Path

from ramq.schemas.training import TrainingCurveOut, TrainingOut
from ramq.schemas.views import PageOut
from ramq.web.deps import ServicesDep

Name = Annotated[str, Path(min_length=1, max_length=200, description="name of the run's folder")]

router = APIRouter(prefix="/v1/training", tags=["training"])


@router.get("")
def list_trainings(services: ServicesDep) -> PageOut[TrainingOut]:
    """List the trainings in the server's `RAMQ_TRAINING_DIR`, the last one first."""
    return PageOut[TrainingOut](items=[TrainingOut.model_validate(run) for run in services.trainings.list()])


@router.get("/{name}")
def get_training(services: ServicesDep, name: Name) -> TrainingCurveOut:
    """Get a training with the course of its losses."""
    return TrainingCurveOut.model_validate(services.trainings.get(name))
