"""The models of a server: nobody waits for what somebody else needs."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from ramq.services import query_models
from ramq.services.query_models import QueryModels
from ramq.services.query_texts import REMEMBERED_TEXTS
from ramq.settings import Settings
from storage.tables import RECOGNITION, Generation

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from ram_core.recognition import TextEncoder

LITE = Generation(model="lite", stage=RECOGNITION)


class Encoder:
    """Counts the texts that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.ones((len(texts), 4), dtype=np.float32)


def test_texts_and_thumbnails_do_not_wait_for_a_model_that_is_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ramq_environment: None
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def load(*_: object, **__: object) -> None:
        begun.set()
        may_end.wait(60)
        raise query_models.ModelError("no such model")

    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    encoder = Encoder()
    monkeypatch.setattr(query_models, "load_model", load)
    monkeypatch.setattr(query_models, "load_text_encoder", lambda *_, **__: cast("TextEncoder", encoder))
    models = QueryModels(Settings(data_dir=tmp_path))

    def search_by_a_picture() -> None:
        try:
            models.encode_picture(picture.getvalue(), [LITE])
        except query_models.UsageError:
            refused.set()

    refused = threading.Event()
    loading = threading.Thread(target=search_by_a_picture)
    loading.start()
    try:
        assert begun.wait(60)
        assert models.encode_text("a cat", LITE).shape == (4,)
        models.decoders().close()
        assert not refused.is_set()
    finally:
        may_end.set()
        loading.join()
    assert refused.is_set()


def test_a_text_is_encoded_once_for_its_pages_and_facets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ramq_environment: None
) -> None:
    encoder = Encoder()
    monkeypatch.setattr(query_models, "load_text_encoder", lambda *_, **__: cast("TextEncoder", encoder))
    models = QueryModels(Settings(data_dir=tmp_path))
    for text in ("a cat", "a dog", "a cat"):
        models.encode_text(text, LITE)
    assert encoder.asked == ["a cat", "a dog"]

    for number in range(REMEMBERED_TEXTS):
        models.encode_text(str(number), LITE)
    models.encode_text("a cat", LITE)
    assert encoder.asked[-1] == "a cat"
