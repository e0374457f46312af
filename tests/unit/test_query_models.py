"""The models of a server: nobody waits for what somebody else needs."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from ramq.services import query_models
from ramq.services.query_models import QueryModels
from ramq.services.query_texts import REMEMBERED_TEXTS, QueryTexts
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


class SlowEncoder(Encoder):
    """Takes its first texts and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.begun, self.may_end = threading.Event(), threading.Event()

    def encode(self, texts: list[str]) -> np.ndarray:
        self.calls.append(sorted(texts))
        if len(self.calls) == 1:
            self.begun.set()
            assert self.may_end.wait(60)
            raise ValueError("the first one fails")
        return super().encode(texts)


def test_texts_that_wait_are_encoded_together_and_after_an_error_each_tries_again(tmp_path: Path) -> None:
    encoder = SlowEncoder()
    texts = QueryTexts(lambda: cast("TextEncoder", encoder), tmp_path)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(texts.encode, "first")
        assert encoder.begun.wait(60)
        others = [threads.submit(texts.encode, text) for text in ("a", "b", "c")]
        while len(texts.waiting) < 3:  # each thread gets there by itself
            threading.Event().wait(0.001)
        encoder.may_end.set()
        assert isinstance(first.exception(), ValueError)
        assert [other.result().shape for other in others] == [(4,)] * 3
    assert encoder.calls == [["first"], ["a", "b", "c"]]


def test_a_remembered_text_does_not_wait_while_another_one_is_encoded(tmp_path: Path) -> None:
    encoder = SlowEncoder()
    encoder.calls.append([])  # not the first one
    texts = QueryTexts(lambda: cast("TextEncoder", encoder), tmp_path)
    texts.encode("known")
    encoder.calls.clear()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(texts.encode, "first")
        assert encoder.begun.wait(60)
        assert texts.encode("known").shape == (4,)
        encoder.may_end.set()
        assert isinstance(slow.exception(), ValueError)
