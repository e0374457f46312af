"""Which vectors of ``lite`` find pictures best, by text and by likeness? On labelled pictures of Debian packages.

    python -m benchmarks.bench_lite_vectors --stamps stamps/usr/share/tuxpaint/stamps

``bench_retrieval`` says where the pictures come from. Variants are computed from scores, for the whole picture and for
the crop that classifiers are evaluated with. *Alike* judges means over the picture of what leaves parts of the network,
and the features from which it computes classes, as ``bench_retrieval`` judges spaces.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch.nn import functional

from benchmarks.bench_retrieval import SIMILAR, taught
from benchmarks.labelled import Labelled, folder_of, opened, photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model, load_text_encoder
from ram_core.embeddings import unit
from ram_core.transforms import normalise, to_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from PIL import Image

RANK = 10
_BATCH = 32


def quality(similarity: NDArray[Any], is_right: NDArray[np.bool_]) -> dict[str, float]:
    """Judge an order of pictures for each text.

    Args:
        similarity: (Q, N) of each text to each picture.
        is_right: (Q, N) whether the picture is an answer to the text; one at least for each.

    Returns:
        The mean reciprocal rank of the first right picture, and the share of right pictures among the first ten.
    """
    order = np.argsort(-similarity, axis=1, kind="stable")
    found = np.take_along_axis(is_right, order, axis=1)
    recall = found[:, :RANK].sum(axis=1) / np.minimum(found.sum(axis=1), RANK)
    return {
        "mean_reciprocal_rank": round(float((1 / (1 + found.argmax(axis=1))).mean()), 4),
        f"recall_at_{RANK}": round(float(recall.mean()), 4),
    }


def chance(is_right: NDArray[np.bool_]) -> dict[str, float]:
    """The same for pictures in random order."""
    random = np.random.default_rng(0)
    draws = [quality(random.random(is_right.shape), is_right) for _ in range(20)]
    return {key: round(float(np.mean([draw[key] for draw in draws])), 4) for key in draws[0]}


def weighted(scores: NDArray[np.float32], embeddings: NDArray[np.float32], tags: int, power: float) -> NDArray[Any]:
    """(N, T) scores and (T, D) embeddings -> (N, D) unit vectors of the likeliest tags, weighted by score ** power."""
    best = np.argsort(-scores, axis=1)[:, :tags]
    weights = np.take_along_axis(scores, best, axis=1) ** power
    return unit(np.einsum("nk,nkd->nd", weights, embeddings[best]))


def run(sets: dict[str, Labelled]) -> dict[str, Any]:
    """Measure what ``lite`` does, and every variant of it."""
    model: Any = load_model("lite")
    encoder = load_text_encoder("lite")
    own = model.preprocessing
    prepared: dict[str, Callable[[Image.Image], torch.Tensor]] = {
        own.name: lambda image: normalise(torch.tensor(own(image))[None], own.mean, own.std)[0],
        "crop, as classifiers are evaluated": _crop(),
    }
    descriptions = [each[0] for each in model.vocabulary.descriptions]
    texts = {"name": encoder.encode(model.vocabulary.names), "definition": encoder.encode(descriptions)}
    texts["name + definition"] = unit(texts["name"] + texts["definition"])
    report: dict[str, Any] = {}
    for name, labelled in sets.items():
        queries = sorted(set(labelled.texts))
        is_right = np.array([[text == query for text in labelled.texts] for query in queries])
        asked = encoder.encode(queries)
        rows = []
        for preparation, prepare in prepared.items():
            scores = _scores(model, labelled.paths, prepare)
            for (form, embeddings), tags, power in itertools.product(texts.items(), (5, 10, 20, 50), (1.0, 0.7, 0.5)):
                vectors = weighted(scores, embeddings, tags, power)
                variant = {"preprocessing": preparation, "texts": form, "tags": tags, "power": power}
                rows.append({**variant, **quality(asked @ vectors.T, is_right)})
            if preparation == own.name:
                thresholds = {str(at): _assigned(scores, at) for at in (0.05, 0.1, 0.2, 0.3)}
        shipped = np.stack([vector for start in range(0, len(labelled.paths), _BATCH)
                            for vector in _vectors(model, labelled.paths[start : start + _BATCH])])  # fmt: skip
        report[name] = {
            "pictures": len(labelled.paths),
            "texts": len(queries),
            "chance": chance(is_right),
            "as_shipped": quality(asked @ shipped.T, is_right),
            "assigned_at_threshold": thresholds,
            "variants": rows,
        }
        print(name, report[name]["as_shipped"], "chance", report[name]["chance"])
    report["alike"] = likeness(sets, model)
    return report


def likeness(sets: dict[str, Labelled], model: Any) -> dict[str, dict[str, float]]:
    """Judge parts of the network by the folders of the pictures that they hold for alike."""
    paths = [path for labelled in sets.values() for path in labelled.paths]
    folders = [folder_of(path) for path in paths]
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for start in range(0, len(paths), _BATCH):
        pixels = np.stack([opened(path, model.preprocessing) for path in paths[start : start + _BATCH]])
        for name, rows in _parts(model, pixels).items():
            parts.setdefault(name, []).append(rows)
    found = {}
    for name, batches in parts.items():
        vectors = unit(np.concatenate(batches))
        found[name] = {
            "vector_size": vectors.shape[1],
            f"precision_at_{SIMILAR}": same_folder(vectors, folders),
            f"taught_by_{SIMILAR}": taught(vectors, folders),
        }
        print(name, found[name], flush=True)
    return found


@torch.inference_mode()
def _parts(model: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return (B, D) means of what leaves each of the last groups of blocks, alone and joined, and the last features."""
    network = model.network
    hidden = normalise(torch.tensor(pixels), model.preprocessing.mean, model.preprocessing.std)
    hidden = network.stem(hidden)
    means = []
    for group in network.groups:
        hidden = group(hidden)  # (B, channels, h, w)
        means.append(functional.normalize(hidden.mean(dim=(2, 3)), dim=1))
    features = network.head(hidden).mean(dim=(2, 3))
    joined = {f"last {count} groups of blocks": torch.cat(means[-count:], dim=1) for count in (1, 2, 3)}
    return {name: each.numpy() for name, each in (joined | {"features of classes": features}).items()}


def same_folder(vectors: NDArray[np.float32], folders: list[str]) -> float:
    """Return the share of the five nearest pictures that lie in a picture's folder, over folders of six and more."""
    kinds, sizes = np.array(folders), Counter(folders)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :SIMILAR]
    is_judged = np.array([sizes[folder] > SIMILAR for folder in folders])
    return round(float((kinds[nearest] == kinds[:, None]).mean(axis=1)[is_judged].mean()), 4)


def _assigned(scores: NDArray[np.float32], threshold: float) -> dict[str, float]:
    counts = (scores > threshold).sum(axis=1)
    return {"tags_per_picture": round(float(counts.mean()), 3), "without_any": round(float((counts == 0).mean()), 3)}


def _crop() -> Callable[[Image.Image], torch.Tensor]:
    """What the network's accuracy is stated for: the square in the middle, a tenth smaller than the shorter side."""
    transform = create_transform(**resolve_data_config({}, model=timm.create_model("tf_efficientnet_lite2")))
    return lambda image: transform(to_rgb(image))


def _vectors(model: Any, paths: list[Path]) -> list[NDArray[np.float32]]:
    pixels = np.stack([opened(path, model.preprocessing) for path in paths])
    return [prediction.vector for prediction in model.predict(pixels)]


def _scores(model: Any, paths: list[Path], prepare: Callable[[Image.Image], torch.Tensor]) -> NDArray[np.float32]:
    """(N, T) scores of pictures that were prepared in a way which need not be the model's own."""
    rows = []
    for start in range(0, len(paths), _BATCH):
        normalised = torch.stack([opened(path, prepare) for path in paths[start : start + _BATCH]])
        rows.append(model.tag_logits(normalised).softmax(dim=1).cpu().numpy())
    return np.concatenate(rows)


def main() -> None:
    """Measure the sets that are there; write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    chosen = parser.parse_args()
    sets = {"stamps": stamps(chosen.stamps), "photographs": photographs()}
    sets = {name: labelled for name, labelled in sets.items() if labelled.paths}
    if not sets:
        parser.error("no labelled pictures: run `python tests/photographs.py`, or see --help for the stamps")
    report = begin(torch=torch.__version__) | run(sets)
    write(chosen, "lite-vectors", report)


if __name__ == "__main__":
    main()
