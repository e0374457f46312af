"""Cleaning labels: planted outliers and contradictions are found, whatever the blocks, in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ram_core.cleaning import (
    CleaningSettings,
    FeatureScale,
    Reason,
    TagRegions,
    clean_tag,
    measure_regions,
    out_of_fold_scores,
)
from ram_core.errors import CleaningError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SETTINGS = CleaningSettings()


def kinds(*counts: int, width: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Rows of some kinds, around directions that have nothing in common."""
    random = np.random.default_rng(seed)
    rows = [random.normal(0, 0.1, (count, width)) + 2 * np.eye(width)[number] for number, count in enumerate(counts)]
    return np.concatenate(rows).astype(np.float32)


class Blocks:
    """Made-up rows that are never in memory together."""

    def __init__(self, count: int, width: int, block: int) -> None:
        self.count, self.width, self.block = count, width, block
        self.read = 0

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        for start in range(0, self.count, self.block):
            self.read += 1
            rows = np.random.default_rng(start).normal(0, 1, (min(self.block, self.count - start), self.width))
            yield rows.astype(np.float16)


def test_planted_outliers_are_found_and_typical_regions_are_not_among_them() -> None:
    rows = kinds(90, 10)
    found = measure_regions([rows], 100, SETTINGS)
    assert np.flatnonzero(found.is_outlier).tolist() == list(range(90, 100))
    assert found.rank.min() == 0
    assert found.rank.max() == 1
    assert found.rank[:90].max() < found.rank[90:].min()
    assert len(found.typical) == SETTINGS.typical
    assert found.typical.max() < 90
    assert found.rank[found.typical].tolist() == sorted(found.rank[found.typical])


def test_a_tag_of_two_kinds_has_a_cluster_and_typical_regions_of_each() -> None:
    rows = kinds(80, 40, *[1] * 12)
    found = measure_regions([rows], 132, replace(SETTINGS, clusters=2, typical=6))
    assert len(set(found.cluster[:80].tolist())) == len(set(found.cluster[80:120].tolist())) == 1
    assert found.cluster[0] != found.cluster[80]
    assert found.is_outlier.sum() == 13
    assert found.is_outlier[120:].all()
    assert [region < 80 for region in found.typical] == [True, False] * 3


def test_the_blocks_do_not_matter() -> None:
    rows = kinds(700, 400, 100).astype(np.float16)
    settings = replace(SETTINGS, clusters=3, sample=1000)
    whole = measure_regions([rows], 1200, settings)
    parts = measure_regions([rows[:1], rows[1:1], rows[1:777], rows[777:]], 1200, settings)
    for name in ("centres", "cluster", "distance", "rank", "is_outlier", "typical"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_the_same_seed_gives_the_same_result_and_another_one_another_sample() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (3000, 8))
    settings = replace(SETTINGS, clusters=5, sample=1000)
    first, again, other = (
        measure_regions([rows], 3000, each) for each in (settings, settings, replace(settings, seed=1))
    )
    np.testing.assert_array_equal(first.distance, again.distance)
    assert not np.array_equal(first.distance, other.distance)


def test_features_are_never_in_memory_together() -> None:
    count, width = 60_000, 256  # 61 MB as float32
    blocks = Blocks(count, width, 2_000)
    settings = replace(SETTINGS, clusters=2, sample=1000)
    for needed in ("sklearn.cluster", "sklearn.linear_model", "threadpoolctl"):
        import_module(needed)  # whose memory is not counted
    tracemalloc.start()
    found = measure_regions(blocks, count, settings, FeatureScale.of(blocks))
    out_of_fold_scores(blocks, count, np.ones((50, width), np.float32), settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert blocks.read == 5 * count // 2_000
    assert found.is_outlier.sum() == count // 10
    assert peak < 25_000_000


def test_an_iterator_is_refused_since_it_can_be_read_but_once() -> None:
    rows = kinds(20)
    for call in (
        lambda: measure_regions(iter([rows]), 20, SETTINGS),
        lambda: out_of_fold_scores(iter([rows]), 20, rows, SETTINGS),
    ):
        with pytest.raises(CleaningError, match="read twice"):
            call()


@pytest.mark.parametrize(
    ("blocks", "count", "message"),
    [
        ([np.ones((3, 4))], 2, "more rows"),
        ([np.ones((3, 4))], 4, "3 rows for 4"),
        ([np.ones((2, 4)), np.ones((2, 5))], 4, "5 wide"),
        ([np.ones(4)], 4, r"not \(n, D\)"),
        ([np.array([[1.0, np.nan]])], 1, "not finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(blocks: Any, count: int, message: str) -> None:
    with pytest.raises(CleaningError, match=message):
        measure_regions(blocks, count, SETTINGS)


def test_few_regions_and_pictures_that_are_all_alike_have_no_outliers() -> None:
    assert not measure_regions([kinds(8, 1)], 9, SETTINGS).is_outlier.any()
    alike = measure_regions([np.ones((50, 4))], 50, replace(SETTINGS, clusters=4))
    assert not alike.is_outlier.any()
    assert len(alike.centres) == 1
    assert measure_regions([np.zeros((20, 4))], 20, SETTINGS).distance.tolist() == [0] * 20
    nothing = measure_regions([], 0, SETTINGS)
    assert nothing.distance.shape == (0,)


def test_the_share_is_never_exceeded() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (39, 8))
    assert measure_regions([rows], 39, SETTINGS).is_outlier.sum() == 3
    assert measure_regions([rows[:30]], 30, SETTINGS).is_outlier.sum() == 3
    assert measure_regions([rows], 39, replace(SETTINGS, outlier_share=0)).is_outlier.sum() == 0


def test_a_scale_makes_small_features_count_as_much_as_large_ones() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (1000, 40))
    is_odd = np.arange(200) % 10 == 0
    rows[:200][~is_odd, :10] += 3
    rows[:200][is_odd, 10:20] += 3
    sizes = np.concatenate([np.full(20, 0.01), np.full(20, 100.0)])
    features = (rows + 1000) * sizes
    scale = FeatureScale.of([features[:1], features[1:300], features[300:]])
    np.testing.assert_allclose(scale.mean, features.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.deviation, features.std(axis=0), rtol=1e-6)
    tag, one = features[:200], replace(SETTINGS, clusters=1)
    assert measure_regions([tag], 200, one, scale).is_outlier[is_odd].mean() > 0.9
    assert measure_regions([tag], 200, one).is_outlier[is_odd].mean() < 0.3


def test_a_feature_that_never_varies_says_nothing() -> None:
    rows = np.concatenate([kinds(30), np.full((30, 1), 7.0, np.float32)], axis=1)
    scale = FeatureScale.of([rows])
    assert np.isfinite(scale.apply(rows)).all()
    assert (scale.apply(rows)[:, -1] == 0).all()
    with pytest.raises(CleaningError, match="of another model"):
        scale.apply(rows[:, 1:])
    with pytest.raises(CleaningError, match="no features"):
        FeatureScale.of([])


def test_a_head_that_has_not_seen_a_wrong_label_ranks_it_among_those_without() -> None:
    random = np.random.default_rng(0)
    having, others = random.normal(1, 1, (100, 20)), random.normal(-1, 1, (300, 20))
    having[::10] = random.normal(-1, 1, (10, 20))
    scores = out_of_fold_scores([having[:33], having[33:]], 100, others, SETTINGS)
    assert 0.3 < scores[::10].mean() < 0.7
    assert np.delete(scores, np.s_[::10]).min() > 0.95
    assert np.isnan(out_of_fold_scores([having[:9]], 9, others, SETTINGS)).all()
    assert np.isnan(out_of_fold_scores([having], 100, others[:4], SETTINGS)).all()
    with pytest.raises(CleaningError, match="100 rows for 101"):
        out_of_fold_scores([having], 101, others, SETTINGS)


def test_a_head_learns_the_same_in_fewer_numbers_than_features_have() -> None:
    """With fewer rows than features it is fitted in the span of the rows."""
    random = np.random.default_rng(0)
    having, others = random.normal(0.3, 1, (40, 30)), random.normal(-0.3, 1, (60, 30))
    wide = np.concatenate([having, np.zeros((40, 200))], axis=1), np.concatenate([others, np.zeros((60, 200))], axis=1)
    np.testing.assert_allclose(
        out_of_fold_scores([wide[0]], 40, wide[1], SETTINGS),
        out_of_fold_scores([having], 40, others, SETTINGS),
        atol=0.02,  # as exact as its iterations
    )


# Regions of 20 images, each with one; image 100 has a second one, which is an outlier.
def located(scores: NDArray[np.float64] | None = None, labelled: list[int] | None = None) -> TagRegions:
    ids = np.array([*range(100, 120), 100])
    return TagRegions(
        [kinds(20, 1)], ids, scores, np.array(labelled if labelled is not None else sorted(set(ids.tolist())))
    )


def verdict(regions: TagRegions, settings: CleaningSettings, image: int) -> tuple[Reason | None, float, int]:
    images = clean_tag(regions, settings).images
    at = images.image_ids.tolist().index(image)
    return images.reasons[at], float(images.certainty[at]), int(images.region[at])


def test_of_several_regions_all_or_any_must_be_wrong() -> None:
    share = replace(SETTINGS, outlier_share=0.05)
    kept = verdict(located(), share, 100)
    assert kept[0] is None
    assert kept[2] == 0
    dropped = verdict(located(), replace(share, several_regions="any"), 100)
    assert dropped == (Reason.OUTLIER, 1.0, 20)
    assert clean_tag(located(), replace(share, several_regions="any")).images.is_dropped.sum() == 1


def test_an_image_without_a_region_is_dropped_or_kept() -> None:
    regions = located(labelled=[*range(100, 120), 7])
    assert verdict(regions, SETTINGS, 7) == (Reason.NO_REGION, 0.5, -1)
    assert verdict(regions, replace(SETTINGS, no_region="keep"), 7) == (None, 0.5, -1)


def test_a_region_in_which_the_model_does_not_see_the_tag_contradicts_it() -> None:
    scores = np.full(21, 0.9)
    scores[3], scores[4], scores[5] = 0.1, 0.49, np.nan
    quiet = replace(SETTINGS, outlier_share=0)
    assert verdict(located(scores), quiet, 103) == (Reason.CONTRADICTED, pytest.approx(0.8), 3)
    assert verdict(located(scores), quiet, 104)[:2] == (Reason.CONTRADICTED, pytest.approx(0.02))
    assert verdict(located(scores), quiet, 105)[:2] == (None, 0.5)
    assert verdict(located(scores), quiet, 106)[:2] == (None, pytest.approx(0.8))
    assert verdict(located(scores), replace(quiet, threshold=0.05), 103)[0] is None
    assert verdict(located(scores), replace(quiet, contradiction=False), 103)[0] is None
    assert not clean_tag(located(scores), replace(quiet, threshold=0.0)).is_contradicted.any()


def test_certainty_falls_towards_the_line_between_keeping_and_dropping() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (200, 8))
    cleaned = clean_tag(TagRegions([rows], np.arange(200)), SETTINGS)
    order = np.argsort(cleaned.regions.rank)
    sure = cleaned.images.certainty[order]
    assert (np.diff(sure[:180]) <= 0).all()
    assert (np.diff(sure[180:]) >= 0).all()
    assert cleaned.images.is_dropped[order].tolist() == [False] * 180 + [True] * 20


def test_rows_images_and_scores_must_fit() -> None:
    rows = kinds(12)
    for regions, message in (
        (TagRegions([rows], np.arange(11)), "more rows"),
        (TagRegions([rows], np.arange(12), np.ones(11)), "scores for"),
        (TagRegions([rows], np.arange(12), np.full(12, 1.5)), "not in 0..1"),
        (TagRegions([rows], np.arange(12), None, np.arange(11)), "but not the tag"),
    ):
        with pytest.raises(CleaningError, match=message):
            clean_tag(regions, SETTINGS)
    none = clean_tag(TagRegions([], np.zeros(0, np.int64), None, np.arange(3)), SETTINGS)
    assert none.images.reasons == [Reason.NO_REGION] * 3


def test_settings_survive_json_and_refuse_what_is_out_of_range() -> None:
    settings = replace(SETTINGS, clusters=3, threshold=0.4, no_region="keep")
    assert CleaningSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
    assert CleaningSettings.from_json({}) == SETTINGS
    assert SETTINGS.outlier_share == 0.1
    for wrong in (
        {"outlier_share": 0.6},
        {"outlier_share": "0.1"},
        {"clusters": 0},
        {"threshold": 2},
        {"no_region": "maybe"},
        {"several_regions": "most"},
        {"regions": "some"},
        {"seed": True},
        {"min_regions": 1},
        {"contradiction": 1},
        {"share": 0.1},
    ):
        with pytest.raises(CleaningError):
            CleaningSettings.from_json(wrong)
    assert [replace(SETTINGS, regions_per_cluster=100).clusters_of(n) for n in (1, 149, 151, 10**6)] == [1, 1, 2, 32]
    assert replace(SETTINGS, clusters=5).clusters_of(3) == 3
