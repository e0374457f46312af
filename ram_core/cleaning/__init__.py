"""Cleaning the labels of a data set, tag by tag, as RAM's data engine does (arXiv:2306.03514, section 3.3).

The regions of a tag are clustered by K-Means++, and the 10 % that are farthest from their centres are outliers. The
baseline model is asked about each region; where it does not see the tag, region and whole image contradict each other.
An image loses a tag for one of these reasons, and for having no region of it.

Everything here is a function of arrays. Features come in blocks, so that a tag may have millions of regions.

``settings``  ``CleaningSettings``, with what the paper leaves open
``scale``     mean and deviation of the features, which make distances comparable
``outliers``  clusters and distances
``baseline``  what is asked about regions where no model knows the tags: a head that has not seen the label it judges
``tag``       ``clean_tag``: from the regions of a tag to a verdict on each image

``docs/decisions/0018-data-engine.md`` says how the choices were made.
"""

from ram_core.cleaning.baseline import out_of_fold_scores
from ram_core.cleaning.outliers import Distances, measure_regions
from ram_core.cleaning.scale import FeatureScale
from ram_core.cleaning.settings import CleaningSettings
from ram_core.cleaning.tag import CleanedTag, ImageVerdicts, Reason, TagRegions, clean_tag

__all__ = [
    "CleanedTag",
    "CleaningSettings",
    "Distances",
    "FeatureScale",
    "ImageVerdicts",
    "Reason",
    "TagRegions",
    "clean_tag",
    "measure_regions",
    "out_of_fold_scores",
]
