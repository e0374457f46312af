"""What ranks a search by text best, and where should its list end? On the labelled pictures of ``labelled``.

    python -m benchmarks.bench_ranking --stamps stamps/usr/share/tuxpaint/stamps

Two questions: does the order gain from the tags that a text names, and which rule drops what is irrelevant, while the
right pictures stay? Choices were made on the *stamps*; the *photographs* were only looked at afterwards.

Texts without an answer are of two kinds. *Unanswerable* ones are written down below and show nothing that either set
has. *Removed* ones are the labelled texts themselves, asked of the set without their right pictures: harder, as
pictures of the next best thing are left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_lite_vectors import RANK, quality
from benchmarks.labelled import UNANSWERABLE, UNANSWERABLE_UNSEEN, Labelled, photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model, load_text_encoder
from ram_core.hierarchy.wordnet import shipped_hierarchy
from storage.results.tag_names import Mention, TagNames, spread
from storage.search.ranking import DEFAULT_RELEVANCE, SAMPLE, TAG_WEIGHT, Background

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BATCH = 32
_KEPT = 0.9  # share of the right pictures among the first ten that every rule is adjusted to keep, on the stamps


def features(paths: Sequence[Path], model: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, T) scores above the model's floor, 0 elsewhere, and (N, D) vectors: what an archive would hold."""
    from PIL import Image  # noqa: PLC0415

    scores = np.zeros((len(paths), len(model.vocabulary)), dtype=np.float32)
    vectors = []
    for start in range(0, len(paths), _BATCH):
        pixels = []
        for path in paths[start : start + _BATCH]:
            with Image.open(path) as image:
                pixels.append(model.preprocessing(image))
        for row, prediction in enumerate(model.predict(np.stack(pixels)), start):
            scores[row, prediction.tag_ids] = prediction.scores
            vectors.append(prediction.vector)
    return scores, np.stack(vectors)


class Asked:
    """Texts, compared with every picture and every tag."""

    def __init__(self, texts: Sequence[str], encoder: Any, vocabulary: Any, scores: Any, vectors: Any) -> None:
        encoded = encoder.encode(texts)
        self.cosines: NDArray[np.float32] = encoded @ vectors.T  # (Q, N)
        self.to_tags: NDArray[np.float32] = encoded @ encoder.encode(vocabulary.names).T  # (Q, T)
        tag_names = TagNames(vocabulary.names, vocabulary.names_zh, vocabulary.synonyms or ())
        self.mentions = [tag_names.mentioned(text) for text in texts]
        self.named = np.stack([_evidence(mention, scores, vocabulary.thresholds) for mention in self.mentions])

    @property
    def is_exempt(self) -> NDArray[np.bool_]:
        """(Q, N) pictures with all tags of a text that says nothing but tags: no rule drops them."""
        whole = np.array([mention.is_whole for mention in self.mentions])
        exempt: NDArray[np.bool_] = (self.named > 0) & whole[:, None]
        return exempt


def _evidence(mention: Mention, scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[Any]:
    """(N,) mean score of the tags that the text names, 0 for pictures that lack one of them."""
    if not mention.terms:
        return np.zeros(len(scores))
    terms = [list(term) for term in mention.terms]
    has_all = np.all([(scores[:, term] > thresholds[term]).any(axis=1) for term in terms], axis=0)
    return np.where(has_all, np.mean([scores[:, term].max(axis=1) for term in terms], axis=0), 0)


def near(asked: Asked, scores: NDArray[np.float32], least: float) -> NDArray[Any]:
    """(Q, N) evidence by the tags whose names are at least so near to the text, each weighted by its nearness."""
    weights = np.where(asked.to_tags >= least, asked.to_tags, 0)
    return np.stack([(row * scores).max(axis=1) for row in weights])


def summed(cosines: NDArray[Any], evidence: NDArray[Any], weight: float) -> NDArray[Any]:
    """(Q, N) cosines, and a share of the evidence by tags on top."""
    total: NDArray[Any] = cosines + weight * evidence
    return total


def ranking(asked: Asked, scores: NDArray[np.float32], is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """Judge the orders: of all texts, and of those that name a tag."""
    orders = {"vector": asked.cosines, "named tags, then vector": asked.named * 10 + asked.cosines}
    kinds = {"named tags": asked.named}
    kinds |= {f"tags nearer than {least}": near(asked, scores, least) for least in (0.6, 0.7, 0.8)}
    for name, evidence in kinds.items():
        orders |= {
            f"{name}, weight {weight}": summed(asked.cosines, evidence, weight)
            for weight in (0.02, 0.05, 0.1, 0.2, 0.5)
        }
    names_a_tag = np.array([bool(mention.terms) for mention in asked.mentions])
    orders |= {name: _only(evidence) for name, evidence in kinds.items()}
    return {
        "texts_that_name_a_tag": round(float(names_a_tag.mean()), 3),
        "all_texts": {name: quality(order, is_right) for name, order in orders.items()},
        "texts_with_a_tag": {
            name: quality(order[names_a_tag], is_right[names_a_tag]) for name, order in orders.items()
        },
        "gate": _gated(asked, is_right, names_a_tag),
    }


def _only(evidence: NDArray[Any]) -> NDArray[Any]:
    """Pictures without evidence in an order that knows nothing: shuffled, not by number, which follows the labels."""
    return evidence + np.random.default_rng(0).random(evidence.shape) * 1e-6


def _gated(asked: Asked, is_right: NDArray[np.bool_], names_a_tag: NDArray[np.bool_]) -> dict[str, float]:
    """What asking for the named tags (``--tag``) does to texts that name some: what stays, and how much is dropped."""
    has, right = asked.named[names_a_tag] > 0, is_right[names_a_tag]
    return {
        "texts_that_keep_a_right_picture": round(float((has & right).any(axis=1).mean()), 3),
        "pictures_left": round(float(has.sum(axis=1).mean()), 1),
        "right_among_them": round(float((has & right).sum() / max(1, has.sum())), 3),
        "right_among_the_first_ten_without": round(
            float(np.take_along_axis(right, _first(asked.cosines[names_a_tag], RANK), 1).mean()), 3
        ),
    }


def _first(similarity: NDArray[Any], count: int) -> NDArray[np.intp]:
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def cutoff(kept: dict[str, NDArray[np.bool_]], asked: Asked, is_right: NDArray[np.bool_]) -> dict[str, float]:
    """Judge a rule by what it keeps.

    Args:
        kept: (Q, N) for the labelled texts ("labelled"), and the same for both lists of unanswerable ones.
        asked: the labelled texts.
        is_right: (Q, N) whether the picture is an answer.
    """
    rows, first, in_ten = _first_right(asked, is_right)
    stays = kept["labelled"][rows, first]
    wrong = (kept["labelled"] & ~is_right).sum(axis=1)
    result = {
        "first_right_kept": round(float(stays.mean()), 3),
        "first_right_kept_of_those_in_ten": round(float(stays[in_ten].mean()), 3),
        "hits": round(float(kept["labelled"].sum(axis=1).mean()), 1),
        "hits_removed": round(float(wrong.mean()), 1),
        "nothing_found_removed": round(float((wrong == 0).mean()), 3),
    }
    for name in ("unanswerable", "unanswerable_unseen"):
        hits = kept[name].sum(axis=1)
        result |= {f"hits_{name}": round(float(hits.mean()), 2)}
        result |= {f"nothing_found_{name}": round(float((hits == 0).mean()), 3)}
    return result


def quality_of_hits(order: NDArray[Any], kept: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> dict[str, float]:
    """Judge lists that end, as ``quality`` does those that do not: a right picture that was dropped is not found."""
    places = np.argsort(np.where(kept, -order, np.inf), axis=1, kind="stable")
    found = np.take_along_axis(is_right & kept, places, axis=1)
    reciprocal = np.where(found.any(axis=1), 1 / (1 + found.argmax(axis=1)), 0)
    recall = found[:, :RANK].sum(axis=1) / np.minimum(is_right.sum(axis=1), RANK)
    return {
        "mean_reciprocal_rank": round(float(reciprocal.mean()), 4),
        f"recall_at_{RANK}": round(float(recall.mean()), 4),
    }


def _first_right(asked: Asked, is_right: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    order = _first(asked.cosines, asked.cosines.shape[1])
    place = np.take_along_axis(is_right, order, axis=1).argmax(axis=1)
    rows = np.arange(len(order))
    return rows, order[rows, place], place < RANK


def rules(asked: Asked, vectors: NDArray[np.float32], names: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """(Q, N) numbers, larger for what is likelier to be relevant: one floor for each is a rule."""
    cosines, to_names = asked.cosines, vectors @ names.T  # (N, T)

    def standing(values: NDArray[Any], axis: int, of: NDArray[Any]) -> NDArray[Any]:
        scaled: NDArray[Any] = (values - of.mean(axis=axis, keepdims=True)) / of.std(axis=axis, keepdims=True)
        return scaled

    return {
        "cosine": cosines,
        "standard deviations above the archive": standing(cosines, 1, cosines),
        "standard deviations above the vocabulary, for the text": standing(cosines, 1, asked.to_tags),
        "standard deviations above the vocabulary, for the picture": standing(cosines.T, 1, to_names).T,
        "share of the background below": np.searchsorted(np.sort(to_names, axis=None), cosines) / to_names.size,
    }


def measure(labelled: Labelled, model: Any, encoder: Any, floors: dict[str, float] | None) -> dict[str, Any]:
    """Measure one set; ``floors`` are the rules' as chosen on another set, or None where they are chosen on this."""
    scores, vectors = features(labelled.paths, model)
    queries = sorted(set(labelled.texts))
    is_right = np.array([[text == query for text in labelled.texts] for query in queries])
    lists = {"labelled": queries, "unanswerable": UNANSWERABLE, "unanswerable_unseen": UNANSWERABLE_UNSEEN}
    every = {name: Asked(texts, encoder, model.vocabulary, scores, vectors) for name, texts in lists.items()}
    asked, names = every["labelled"], encoder.encode(shipped_hierarchy().classes_of(model.vocabulary.names))
    values = {name: rules(each, vectors, names) for name, each in every.items()}
    if floors is None:
        rows, first, in_ten = _first_right(asked, is_right)
        floors = {rule: float(np.quantile(v[rows, first][in_ten], 1 - _KEPT)) for rule, v in values["labelled"].items()}
    background = Background.of(vectors[spread(len(vectors), SAMPLE)], names[spread(len(names), SAMPLE)])
    shipped = {}
    order = summed(asked.cosines, asked.named, TAG_WEIGHT)
    for relevance in (0.0, 0.8, 0.9, DEFAULT_RELEVANCE, 0.97, 0.98, 0.99):
        floor = background.floor(relevance)
        kept = {name: (each.cosines >= floor) | each.is_exempt for name, each in every.items()}
        shipped[f"{relevance:g}"] = {
            "cosine": round(floor, 3) if relevance else None,
            **quality_of_hits(order, kept["labelled"], is_right),
            **cutoff(kept, asked, is_right),
        }
    by_rule = {
        rule: {"floor": round(at, 3)} | cutoff({name: values[name][rule] >= at for name in every}, asked, is_right)
        for rule, at in floors.items()
    }
    return {
        "pictures": len(labelled.paths),
        "texts": len(queries),
        "ranking": ranking(asked, scores, is_right),
        "relevance": shipped,
        "rules_with_the_floors_of_the_stamps": by_rule,
        "floors": floors,
    }


def main() -> None:
    """Choose on the stamps, report on both; write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    chosen = parser.parse_args()
    sets = {"stamps": stamps(chosen.stamps), "photographs": photographs()}
    for name, labelled in sets.items():
        if not labelled.paths:
            parser.error(f"no {name}: see `python -m benchmarks.bench_retrieval --help` for where they come from")
    model, encoder = load_model("lite"), load_text_encoder("lite")
    report = begin() | {
        "unanswerable": UNANSWERABLE,
        "unanswerable_unseen": UNANSWERABLE_UNSEEN,
        "stamps": measure(sets["stamps"], model, encoder, None),
    }
    report["photographs"] = measure(sets["photographs"], model, encoder, report["stamps"]["floors"])
    for name in sets:
        del report[name]["floors"]
        print(name, json.dumps(report[name], indent=1))
    write(chosen, "ranking-lite", report)


if __name__ == "__main__":
    main()
