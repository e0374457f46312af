"""What is kept of pictures that ``lite`` recognises."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from ram_core import load_model
from ram_core.errors import FeaturesError
from ram_core.features import pack_pooled, unpack_pooled
from ram_core.lite.network import SIZES, see
from ram_core.spaces import load_image_encoder
from storage.index.feature_files import FeatureFiles
from storage.index.file_storage import FolderStorage
from storage.index.manifest import DamagedError
from workers.messages import features_kept

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.lite.model import Lite

PIXELS = np.random.default_rng(3).integers(0, 256, (3, 260, 260, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Lite:
    return cast("Lite", load_model("lite", cache_dir=tmp_path_factory.mktemp("cache")))


def test_parts_come_back_within_half_a_step_of_their_own_scale() -> None:
    parts = [torch.randn(4, 7), torch.rand(4, 3) * 100, torch.zeros(4, 2)]
    rows = pack_pooled(parts)
    assert rows.shape == (4, 3 * 4 + 7 + 3 + 2)
    for given, back in zip(parts, unpack_pooled(rows, (7, 3, 2)), strict=True):
        step = given.abs().amax(dim=1, keepdim=True).numpy() / 127
        assert (np.abs(given.numpy() - back) <= step / 2 + 1e-6).all()


def test_the_size_is_what_the_documents_say() -> None:
    assert pack_pooled([torch.zeros(1, size) for size in SIZES]).shape == (1, 1852)


def test_the_network_in_parts_computes_what_it_computes_as_a_whole(lite: Lite) -> None:
    batch = torch.randn(2, 3, 260, 260)
    with torch.inference_mode():
        whole = lite.network(batch)
        seen = see(lite.network, batch)
    assert torch.equal(seen.logits, whole)
    assert [part.shape for part in seen.parts] == [(2, size) for size in SIZES]


def test_predictions_are_the_same_with_features_as_without(lite: Lite) -> None:
    for plain, kept in zip(lite.predict(PIXELS), lite.predict(PIXELS, features="pooled"), strict=True):
        assert plain.features is None
        assert kept.features is not None
        np.testing.assert_array_equal(plain.tag_ids, kept.tag_ids)
        np.testing.assert_array_equal(plain.scores, kept.scores)
        np.testing.assert_array_equal(plain.vector, kept.vector)


def test_the_scores_of_all_tags_are_computed_from_features(lite: Lite) -> None:
    seen = lite.predict(PIXELS, features="pooled")
    scores = lite.scores_of_features(np.stack([one.features for one in seen if one.features is not None]))
    for one, row in zip(seen, scores, strict=True):
        np.testing.assert_allclose(row[one.tag_ids], one.scores, atol=0.01)
    with pytest.raises(FeaturesError, match="another one"):
        lite.scores_of_features(np.zeros((1, 1284), dtype=np.uint8))


def test_features_hold_how_a_picture_looks(lite: Lite) -> None:
    kept = [one.features for one in lite.predict(PIXELS, features="pooled")]
    groups = unpack_pooled(np.stack([row for row in kept if row is not None]), SIZES)[1:]
    vectors = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in groups], axis=1)
    looks = load_image_encoder("lite").encode(PIXELS)
    np.testing.assert_allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), looks, atol=2e-3)


def test_a_vocabulary_of_names_keeps_the_same_features(lite: Lite) -> None:
    other = lite.with_vocabulary(["cat", "tractor"])
    for plain, named in zip(
        lite.predict(PIXELS, features="pooled"), other.predict(PIXELS, features="pooled"), strict=True
    ):
        assert plain.features is not None
        np.testing.assert_array_equal(plain.features, named.features)


@pytest.mark.parametrize(
    ("model", "wanted", "kept"),
    [
        ("lite", "auto", "pooled"),
        ("lite", "tokens", "pooled"),
        ("lite", "none", "none"),
        ("ram", "auto", "none"),
        ("ram_plus@birds", "tokens", "tokens"),
        ("ram", "global", "global"),
        ("ram", "pooled", "none"),
    ],
)
def test_each_model_keeps_what_it_has(model: str, wanted: str, kept: str) -> None:
    assert features_kept(model, wanted) == kept


def test_rows_of_many_files_are_read_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    files = FeatureFiles(FolderStorage(tmp_path))
    parts = [np.random.default_rng(n).integers(0, 256, (4, 6), dtype=np.uint8) for n in range(3)]
    names = [files.write(1, "pooled", part).name for part in parts]
    asked = [(2, 1), (0, 3), (2, 0), (1, 2), (0, 0)]
    found = files.rows([(names[file], position) for file, position in asked])
    np.testing.assert_array_equal(found, np.stack([parts[file][position] for file, position in asked]))
    np.testing.assert_array_equal(found[0], files.row(names[2], 1))
    assert files.rows([]).shape == (0, 0)
    with pytest.raises(DamagedError, match="row 5 is missing"):
        files.rows([(names[0], 4)])
    (tmp_path / names[1]).write_bytes(b"other")
    with pytest.raises(DamagedError, match="was changed"):
        files.rows([(names[0], 1), (names[1], 1)])
