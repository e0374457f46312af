"""How well a model tags a data set, and which thresholds reach a precision there.

* ``scoring``: scores of every image of a data set of ``ram_core.training.data``, kept on disk; what is true of it.
* ``figures``: precision, recall, F1 and average precision of each tag and of all, with confidence intervals.
* ``calibration``: thresholds for a precision, tried on images that did not choose them.
* ``report``: these as files and as text.

``ram_core.evaluate`` follows the protocol of the official benchmarks instead, for figures to be compared with papers.
"""

from ram_core.evaluation.calibration import Calibration, calibrate
from ram_core.evaluation.figures import Evaluation, evaluate, wilson
from ram_core.evaluation.report import (
    CALIBRATION,
    TAGS,
    calibration_data,
    calibration_text,
    evaluation_data,
    evaluation_text,
    write_calibration,
    write_evaluation,
)
from ram_core.evaluation.scoring import Scored, score_dataset

__all__ = [
    "CALIBRATION",
    "TAGS",
    "Calibration",
    "Evaluation",
    "Scored",
    "calibrate",
    "calibration_data",
    "calibration_text",
    "evaluate",
    "evaluation_data",
    "evaluation_text",
    "score_dataset",
    "wilson",
    "write_calibration",
    "write_evaluation",
]
