"""From files to batches.

* ``dataset``: what is known of images, compactly, and how their pictures are read.
* ``opening``: which kind of data a path is. ``official``, ``tables``, ``coco``, ``sidecars``, ``shards``: the kinds.
  ``describing``: captions to tags. ``pictures``: files in a folder, and nothing outside of it.
* ``batches``: batches for training and for validation. ``loader``: reading and decoding ahead, in order.
  ``bad_images``: the list of those that could not be read.
"""

from ram_core.training.data.bad_images import BadImages
from ram_core.training.data.batches import ImageBatches, ValidationBatches
from ram_core.training.data.dataset import DataSet, Sample, require_captions
from ram_core.training.data.official import write_official
from ram_core.training.data.opening import open_dataset

__all__ = [
    "BadImages",
    "DataSet",
    "ImageBatches",
    "Sample",
    "ValidationBatches",
    "open_dataset",
    "require_captions",
    "write_official",
]
