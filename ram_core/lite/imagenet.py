"""The tags of ``lite``: the 1,000 classes of ImageNet, and tags above them."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from ram_core.hierarchy.wordnet import shipped_hierarchy
from ram_core.vocabulary import TagVocabulary

CLASSES = 1000
# On both sets of benchmarks/bench_lite_vectors.py this assigns 1.3 tags per image, and leaves a tenth of the images
# without tags. 0.05 assigns two, and 0.2 leaves a third of the images without tags.
_THRESHOLD = 0.1
# Best for both sets of benchmarks/bench_upper_tags.py. It is higher than that of classes: a sum over many classes also
# adds up what the network holds possible and not likely.
UPPER_THRESHOLD = 0.2


def imagenet_vocabulary() -> TagVocabulary:
    """Return ImageNet's 1,000 classes, and behind them the tags above, such as "animal".

    A class has the first of its names, with the others as synonyms, and all of them with its definition as description.
    Three names are shared by two classes each (crane, cardigan, maillot): a bird and a machine, a dog and a garment.
    """
    hierarchy = shipped_hierarchy()
    upper = hierarchy.upper_tags
    # The names and the definition of each class, as timm has them. Importing timm takes long.
    lines = (files("ram_core.lite") / "imagenet_classes.tsv").read_text(encoding="utf-8").splitlines()
    names = [line.partition("\t")[0].split(",")[0].strip() for line in lines]
    descriptions = [(line.replace("\t", ": ", 1),) for line in lines]
    thresholds = np.full(CLASSES + len(upper), _THRESHOLD, dtype=np.float32)
    thresholds[CLASSES:] = UPPER_THRESHOLD
    return TagVocabulary(
        "imagenet",
        (*names, *(tag.name for tag in upper)),
        (None,) * (CLASSES + len(upper)),
        thresholds,
        (*descriptions, *((tag.description,) for tag in upper)),
        (*hierarchy.class_synonyms, *(tag.synonyms for tag in upper)),
    )


def upper_weights() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return (1000, U): 1 where a tag above stands for a class, else 0."""
    upper = shipped_hierarchy().upper_tags
    weights = np.zeros((CLASSES, len(upper)), dtype=np.float32)
    for column, tag in enumerate(upper):
        weights[list(tag.classes), column] = 1
    return weights
