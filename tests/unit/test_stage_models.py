"""Which models a stage may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.services.stage_models import require
from storage.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("stage", "model"),
    [
        ("text", "ppocr_v6@x"),
        ("look", "siglip2-base@x"),
        ("look", "lite@x"),
        ("crops", "lite@x"),
        ("crops", "ram_plus@"),
        ("crops", "ram_plus@../x"),
    ],
)
def test_only_recognisers_that_can_be_trained_have_trained_names(stage: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model"):
        require(stage, model, tmp_path)


@pytest.mark.parametrize(
    ("stage", "model"),
    [("crops", "ram_plus@birds"), ("look", "tag2text@birds"), ("look", "lite"), ("text", "ppocr_v6")],
)
def test_known_and_trained_models_are_taken(stage: str, model: str, tmp_path: Path) -> None:
    require(stage, model, tmp_path)
