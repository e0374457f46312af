"""Does cleaning labels clean them, and is a model better that learns from them? On labels that were broken on purpose.

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python tests/photographs.py
    python -m benchmarks.bench_cleaning --stamps stamps/usr/share/tuxpaint/stamps

Real pictures, of which ``benchmarks.kinds`` knows the tags. Seven of ten are learned from; the others, with clean
labels, are held out. For each seed, 30 % of the labels are taken away, and wrong ones are added until 10 % of all are
wrong: of a random picture without the tag, or (``confusable``) of the one of five such pictures that looks most as if
it had the tag. Then come the steps of the data engine, each picture being its own region:

*given*: broken, as described. *outliers*, *contradicted*, *cleaned*: without what cleaning drops for one of its two
reasons, or for both. *generated*: with the tags that ``lite`` finds, as far as it knows the tag. Precision and recall
are those of labels. ``mean_ap`` is the mean over tags of the average precision, on the held-out pictures, of a head
that learned these labels from what ``lite`` computes of pictures. One head is regularised as is best for true labels.
The other, ``by heart``, learns nearly each label, wrong ones too, as large networks do.

Settings were chosen by ``--choose``, on other seeds than those that are reported.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.kinds import Kinds, kinds_of
from benchmarks.labelled import opened, photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.cleaning import (
    CleaningSettings,
    FeatureScale,
    TagRegions,
    clean_tag,
    out_of_fold_scores,
)
from ram_core.metrics import average_precision
from ram_core.transforms import normalise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

    Labels = NDArray[np.bool_]
    Rows = NDArray[np.float32]

REPORTED = range(10)
CHOSEN_ON = range(100, 106)
LEARNED, MISSING, WRONG = 0.7, 0.3, 0.1
WHOLE = CleaningSettings(regions="whole")
RIDGES = {"mean_ap": 3.0, "mean_ap_by_heart": 0.1}
_BATCH = 32
_CONFUSED = 5


@torch.inference_mode()
def computed(kinds: Kinds) -> tuple[Rows, Rows, Labels]:
    """Return what ``lite`` makes of N pictures: (N, 1280) features, (N, D) vectors, (N, T) which tags it finds."""
    model: Any = load_model("lite")
    own = model.preprocessing
    features, vectors, found = [], [], []
    vocabulary = model.vocabulary
    ids = {name: number for number, name in enumerate(vocabulary.names)}
    columns = [ids.get(tag, -1) for tag in kinds.tags]
    for start in range(0, len(kinds.paths), _BATCH):
        pixels = np.stack([opened(path, own) for path in kinds.paths[start : start + _BATCH]])
        network = model.network
        pooled = network.features(normalise(torch.tensor(pixels), own.mean, own.std)).mean(dim=(2, 3))
        features.append(pooled.numpy())
        scores = model.scores(network.classifier(pooled)).numpy()
        found.append((scores > vocabulary.thresholds)[:, columns] & (np.array(columns) >= 0))
        vectors.append(np.stack([each.vector for each in model.predict(pixels)]))
    return np.concatenate(features), np.concatenate(vectors), np.concatenate(found)


def parted(kinds: Kinds, seed: int) -> NDArray[np.bool_]:
    """Return (N,) whether a picture is learned from, the same share of each folder."""
    random = np.random.default_rng(seed)
    folders = np.array(kinds.folders)
    is_learned = np.zeros(len(folders), np.bool_)
    for folder in sorted(set(kinds.folders)):
        ids = random.permutation(np.flatnonzero(folders == folder))
        is_learned[ids[: round(LEARNED * len(ids))]] = True
    return is_learned


def broken(has: Labels, seed: int, likeness: Rows | None = None) -> Labels:
    """Return labels of which some are missing and some wrong; (N, T) ``likeness`` to a tag makes them confusable."""
    random = np.random.default_rng(1000 + seed)
    given = has & (random.random(has.shape) >= MISSING)
    result = given.copy()
    for tag in range(has.shape[1]):
        count = round(int(given[:, tag].sum()) * WRONG / (1 - WRONG))
        free = random.permutation(np.flatnonzero(~has[:, tag]))
        if likeness is None:
            result[free[:count], tag] = True
            continue
        for number in range(count):
            some = free[number * _CONFUSED : (number + 1) * _CONFUSED]
            if some.size:
                result[some[likeness[some, tag].argmax()], tag] = True
    return result


class Trial:
    """Labels of one seed, and what can be done with them."""

    def __init__(self, kinds: Kinds, seen: tuple[Rows, Rows, Labels], seed: int, *, confusable: bool = False) -> None:
        is_learned = parted(kinds, seed)
        features, vectors, found = seen
        self.true, self.held_out = kinds.has[is_learned], kinds.has[~is_learned]
        self.features, self.vectors, self.found = features[is_learned], vectors[is_learned], found[is_learned]
        self.scale = FeatureScale.of([self.features])
        self._rows = self.scale.apply(features)
        self._is_learned = is_learned
        likeness = self._rows[is_learned] @ self._middles() if confusable else None
        self.given = broken(self.true, seed, likeness)
        self.generated = self.given | self.found

    def _middles(self) -> Rows:
        rows, has = self._rows[self._is_learned], self.true.astype(np.float32)
        middles: Rows = (rows.T @ has) / has.sum(axis=0)
        return middles

    @cached_property
    def _heads(self) -> dict[str, Rows]:
        """(held out, learned) matrices: their product with labels, less the mean, is what ridge regression says.

        So all labels of a seed are learned in one go. Logistic regression would take a thousand times as long.
        """
        learned, held_out = self._rows[self._is_learned], self._rows[~self._is_learned]
        products, own = held_out @ learned.T, learned @ learned.T
        return {name: products @ np.linalg.inv(own + ridge * np.eye(len(own))) for name, ridge in RIDGES.items()}

    def scored(self, labels: Labels, settings: CleaningSettings) -> Rows:
        """Return the scores of a head that has not seen the label; NaN where a picture does not have it."""
        scores = np.full(labels.shape, np.nan, np.float32)
        for tag in range(labels.shape[1]):
            ids = np.flatnonzero(labels[:, tag])
            others = self.features[~labels[:, tag]]
            scores[ids, tag] = out_of_fold_scores([self.features[ids]], len(ids), others, settings, self.scale)
        return scores

    def cleaned(
        self, labels: Labels, settings: CleaningSettings, scores: Rows | None = None, of: str = "scaled"
    ) -> dict[str, Labels]:
        """Return which labels each step drops."""
        dropped = {name: np.zeros_like(labels) for name in ("outliers", "contradicted")}
        features, scale = self._features(of)
        for tag in range(labels.shape[1]):
            ids = np.flatnonzero(labels[:, tag])
            own = None if scores is None else scores[ids, tag]
            found = clean_tag(TagRegions([features[ids]], ids, own), settings, scale=scale)
            dropped["outliers"][ids, tag] = found.regions.is_outlier
            dropped["contradicted"][ids, tag] = found.is_contradicted
        return dropped

    def _features(self, of: str) -> tuple[Rows, FeatureScale | None]:
        if of == "vectors":
            return self.vectors, None
        return self.features, self.scale if of == "scaled" else None

    def judged(self, labels: Labels, before: Labels | None = None, *, learn: bool = True) -> dict[str, float]:
        """Return precision and recall of labels, and of what was dropped; and how good a model they make."""
        right = int((labels & self.true).sum())
        result = {
            "labels": int(labels.sum()),
            "precision": right / max(1, int(labels.sum())),
            "recall": right / int(self.true.sum()),
        }
        if before is not None:
            gone, wrong = before & ~labels, before & ~self.true
            result["dropped"] = int(gone.sum())
            result["dropped_that_were_wrong"] = int((gone & wrong).sum()) / max(1, int(gone.sum()))
            result["wrong_that_were_dropped"] = int((gone & wrong).sum()) / max(1, int(wrong.sum()))
        if learn:
            result |= self._learned(labels)
        return result

    def _learned(self, labels: Labels) -> dict[str, float]:
        tags = np.flatnonzero(self.held_out.any(axis=0))
        result = {}
        for name, heads in self._heads.items():
            scores = heads @ (labels - labels.mean(axis=0))
            found = [average_precision(scores[:, tag], self.held_out[:, tag]) for tag in tags]
            result[name] = float(np.mean(found))
        return result


def ablation(trial: Trial, settings: CleaningSettings) -> dict[str, dict[str, float]]:
    """Judge the labels after each step."""
    result = {"true": trial.judged(trial.true)}
    for begin_with, labels in (("given", trial.given), ("generated", trial.generated)):
        dropped = trial.cleaned(labels, settings, trial.scored(labels, settings))
        outliers, contradicted = dropped["outliers"], dropped["contradicted"]
        random = np.random.default_rng(0).permutation(np.flatnonzero(labels))[: int((outliers | contradicted).sum())]
        by_chance = np.zeros_like(labels)
        by_chance.flat[random] = True
        result[begin_with] = trial.judged(labels)
        for name, gone in (
            ("outliers", outliers),
            ("contradicted", contradicted),
            ("cleaned", outliers | contradicted),
            ("as many by chance", by_chance),
        ):
            result[f"{begin_with}, {name}"] = trial.judged(labels & ~gone, labels)
        few = replace(settings, min_regions=20)
        gone = np.logical_or(*trial.cleaned(labels, few, trial.scored(labels, few)).values())
        result[f"{begin_with}, cleaned, min_regions 20"] = trial.judged(labels & ~gone, labels)
    return result


def tried(trial: Trial, settings: CleaningSettings) -> dict[str, dict[str, float]]:
    """Judge alternatives to the settings."""
    result: dict[str, dict[str, float]] = {"given": trial.judged(trial.given)}
    outliers_only = replace(settings, contradiction=False)
    scores = trial.scored(trial.given, settings)

    def keep(name: str, gone: Labels, *, learn: bool = False) -> None:
        result[name] = trial.judged(trial.given & ~gone, trial.given, learn=learn)

    for of in ("scaled", "as they are", "vectors"):
        for clusters in (1, 2, 3, 5):
            dropped = trial.cleaned(trial.given, replace(outliers_only, clusters=clusters), of=of)
            keep(f"outliers of {of}, {clusters} clusters", dropped["outliers"])
    for per in (20, 50, 100):
        dropped = trial.cleaned(trial.given, replace(outliers_only, clusters=None, regions_per_cluster=per))
        keep(f"outliers of scaled, a cluster for each {per}", dropped["outliers"])
    for share in (0.05, 0.1, 0.15, 0.2):
        dropped = trial.cleaned(trial.given, replace(outliers_only, outlier_share=share))
        keep(f"outlier_share {share}", dropped["outliers"], learn=True)
    for least in (5, 10, 20):
        dropped = trial.cleaned(trial.given, replace(outliers_only, min_regions=least))
        keep(f"min_regions {least}", dropped["outliers"], learn=True)
    outliers = trial.cleaned(trial.given, outliers_only)["outliers"]
    for threshold in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        contradicted = trial.cleaned(trial.given, replace(settings, threshold=threshold), scores)["contradicted"]
        keep(f"threshold {threshold}, contradicted", contradicted, learn=True)
        keep(f"threshold {threshold}, both", contradicted | outliers, learn=True)
        keep(f"threshold {threshold}, only what both say", contradicted & outliers, learn=True)
    # The model that generates, instead of a head: it has seen none of the labels, and knows some of the tags only.
    known = trial.found.any(axis=0)
    unseen = trial.given & known & ~trial.found
    keep("contradicted by lite's own tags", unseen, learn=True)
    keep("contradicted by lite's own tags, or outliers", unseen | outliers, learn=True)
    return result


def over_seeds(seeds: range, run: Callable[[int], dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return means over seeds, and how much is gained over the labels given, with its standard error."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        for name, figures in run(seed).items():
            for figure, value in figures.items():
                rows[name][figure].append(value)
        print(seed, flush=True)
    result = {name: {k: round(float(np.mean(v)), 4) for k, v in figures.items()} for name, figures in rows.items()}
    for name, figures in rows.items():
        for figure in figures.keys() & RIDGES.keys():
            gained = np.array(figures[figure]) - rows["given"][figure]
            result[name][f"{figure}_gained"] = round(float(gained.mean()), 4)
            result[name][f"{figure}_gained_standard_error"] = round(float(gained.std(ddof=1) / len(gained) ** 0.5), 4)
    for name, figures in result.items():
        print(f"{name:48}", figures)
    return result


def main() -> None:
    """Measure, write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    parser.add_argument("--choose", action="store_true", help="compare settings, on seeds for that alone")
    chosen: argparse.Namespace = parser.parse_args()
    kinds = kinds_of([stamps(chosen.stamps), photographs()])
    if len(kinds.paths) < 500:
        parser.error("too few labelled pictures: run `python tests/photographs.py`, and see --help for the stamps")
    seen = computed(kinds)
    report = begin(pictures=len(kinds.paths), settings=WHOLE.as_json())
    report["tags"] = {tag: int(count) for tag, count in zip(kinds.tags, kinds.has.sum(axis=0), strict=True)}
    right = seen[2] & kinds.has
    report["lite_alone"] = {
        "tags_that_it_knows": int(seen[2].any(axis=0).sum()),
        "precision": round(float(right.sum() / seen[2].sum()), 4),
        "recall": round(float(right.sum() / kinds.has.sum()), 4),
    }
    print(report["lite_alone"])
    seeds, run = (CHOSEN_ON, tried) if chosen.choose else (REPORTED, ablation)
    report["seeds"] = list(seeds)
    with threadpool_limits(1):
        for name in ("random", "confusable"):
            print(name)
            report[name] = over_seeds(
                seeds, lambda seed, name=name: run(Trial(kinds, seen, seed, confusable=name == "confusable"), WHOLE)
            )
    write(chosen, "cleaning-choices" if chosen.choose else "cleaning", report)


if __name__ == "__main__":
    main()
