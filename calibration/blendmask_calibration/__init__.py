"""Which pictures calibrate a network, whether they are fit for it, and which ranges follow from them.

Needs numpy and nothing else; knows neither the network nor the runtime.
"""

from blendmask_calibration.errors import CalibrationError
from blendmask_calibration.guard import Finding, Limit, Limits, check_detections, check_images, refusals
from blendmask_calibration.histogram import Histogram
from blendmask_calibration.images import (
    CalibrationImage,
    describe,
    fingerprint,
    list_images,
    near_duplicates,
    sample,
    sha256_file,
)
from blendmask_calibration.ranges import (
    ESTIMATORS,
    Entropy,
    Estimator,
    Max,
    MeanSquaredError,
    Percentile,
    Range,
    RangeCollector,
    estimator_named,
    range_up_to,
    squared_errors,
)
from blendmask_calibration.record import CalibrationRecord
from blendmask_calibration.statistics import PictureStatistics, picture_statistics

__all__ = [
    "ESTIMATORS",
    "CalibrationError",
    "CalibrationImage",
    "CalibrationRecord",
    "Entropy",
    "Estimator",
    "Finding",
    "Histogram",
    "Limit",
    "Limits",
    "Max",
    "MeanSquaredError",
    "Percentile",
    "PictureStatistics",
    "Range",
    "RangeCollector",
    "check_detections",
    "check_images",
    "describe",
    "estimator_named",
    "fingerprint",
    "list_images",
    "near_duplicates",
    "picture_statistics",
    "range_up_to",
    "refusals",
    "sample",
    "sha256_file",
    "squared_errors",
]
