"""The 1,000 classes of ``lite``."""

from __future__ import annotations

import numpy as np
from timm.data import ImageNetInfo

from ram_core.vocabulary import TagVocabulary

CLASSES = 1000
# On both sets of benchmarks/bench_retrieval.py this assigns 1.3 tags per image and leaves a tenth of the images without
# tags. 0.05 assigns two, and 0.2 leaves a third of the images without tags.
_THRESHOLD = 0.1


def imagenet_vocabulary() -> TagVocabulary:
    """Return ImageNet's 1,000 classes: the first name of each, with all its names and the definition as description.

    Three names are shared by two classes each (crane, cardigan, maillot): a bird and a machine, a dog and a garment.
    """
    info = ImageNetInfo()
    names = tuple(info.index_to_description(i).split(",")[0].strip() for i in range(CLASSES))
    descriptions = tuple((info.index_to_description(i, detailed=True),) for i in range(CLASSES))
    thresholds = np.full(CLASSES, _THRESHOLD, dtype=np.float32)
    return TagVocabulary("imagenet", names, (None,) * CLASSES, thresholds, descriptions)
