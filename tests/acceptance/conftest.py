from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.embeddings import with_embeddings

if TYPE_CHECKING:
    from ramq.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of any test, with the embeddings that the model lite looks for."""
    with_embeddings(settings.data_dir)
    return settings
