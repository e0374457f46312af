"""At which score is a tag above the classes of ``lite`` right? On the labelled pictures of ``labelled``.

    python tests/photographs.py
    python -m benchmarks.bench_upper_tags --stamps stamps/usr/share/tuxpaint/stamps

A picture's label is the longest name of WordNet in its text. The tags above it are expected, and no others: of
"a hammer", the tag "tool". Pictures whose text has no such name are left out. Labels name one thing of a picture, so
some tags that are counted as wrong are right.

*assigned*: the score is above the threshold. *found*: that, or a class below is assigned, as a search for the tag finds
it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.labelled import Labelled, opened, photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.hierarchy.wordnet import shipped_hierarchy
from ram_core.lite.imagenet import CLASSES, upper_weights
from ram_core.transforms import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS_THRESHOLD = 0.1
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_BATCH = 32
_MOST_WORDS = 3


def expected_of(text: str, above: dict[str, set[str]]) -> set[str] | None:
    """Return the tags that a text lets expect; None if it names nothing that is known."""
    words = re.sub(r"[^a-z' ]", " ", text.lower()).split()
    for count in range(_MOST_WORDS, 0, -1):
        for start in range(len(words) - count + 1):
            name = " ".join(words[start : start + count])
            for form in (name, name.removesuffix("s")):
                if above.get(form):
                    return above[form]
    return None


def judged(is_assigned: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> dict[str, float]:
    """Return precision, recall and their harmonic mean over all tags and pictures, (N, U) each."""
    right = np.count_nonzero(is_assigned & is_right)
    precision, recall = right / max(1, is_assigned.sum()), right / max(1, is_right.sum())
    return {
        "precision": round(float(precision), 3),
        "recall": round(float(recall), 3),
        "f1": round(float(2 * precision * recall / max(precision + recall, 1e-9)), 3),
        "tags_per_picture": round(float(is_assigned.sum(axis=1).mean()), 2),
    }


def run(sets: dict[str, Labelled]) -> dict[str, Any]:
    """Measure each set."""
    model, hierarchy = load_model("lite"), shipped_hierarchy()
    names = [tag.name for tag in hierarchy.upper_tags]
    above = {name.lower(): set(general) & set(names) for name, general in hierarchy.more_general().items()}
    for tag in hierarchy.upper_tags:
        for name in (tag.name, *tag.synonyms):
            above[name.lower()] = above.get(name.lower(), set()) | {tag.name}
    report: dict[str, Any] = {}
    for name, labelled in sets.items():
        labels = [expected_of(text, above) for text in labelled.texts]
        known = [place for place, label in enumerate(labels) if label]
        paths = [labelled.paths[place] for place in known]
        is_right = np.array([[tag in (labels[place] or ()) for tag in names] for place in known])
        classes = _scores(model, paths)
        weights = upper_weights()
        upper = classes @ weights
        has_class = ((classes > CLASS_THRESHOLD).astype(np.float32) @ weights) > 0
        report[name] = {
            "pictures": len(known),
            "assigned": {str(at): judged(upper > at, is_right) for at in THRESHOLDS},
            "found": {str(at): judged((upper > at) | has_class, is_right) for at in THRESHOLDS},
        }
        for kind in ("assigned", "found"):
            for at, figures in report[name][kind].items():
                print(name, kind, at, figures)
    return report


def _scores(model: Any, paths: list[Path]) -> NDArray[np.float32]:
    rows = []
    for start in range(0, len(paths), _BATCH):
        pixels = np.stack([opened(path, model.preprocessing) for path in paths[start : start + _BATCH]])
        prepared = normalise(torch.tensor(pixels), model.preprocessing.mean, model.preprocessing.std)
        rows.append(model.tag_logits(prepared)[:, :CLASSES].softmax(dim=1).cpu().numpy())
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
    write(chosen, "upper-tags", begin(torch=torch.__version__) | run(sets))


if __name__ == "__main__":
    main()
