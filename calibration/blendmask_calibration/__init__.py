"""Which images calibrate a network, whether they are fit for it, and which ranges follow from them.

Needs numpy and nothing else; knows neither the network nor the runtime.
"""

from blendmask_calibration.checks.findings import Finding, refusals
from blendmask_calibration.checks.guard import check_channel_order, check_detections, check_images
from blendmask_calibration.checks.limits import Limit, Limits
from blendmask_calibration.checks.statistics import ImageStatistics, image_statistics
from blendmask_calibration.dataset import (
    CalibrationImage,
    describe,
    fingerprint,
    list_images,
    near_duplicates,
    other_files,
    sample,
    sha256_file,
)
from blendmask_calibration.errors import CalibrationError
from blendmask_calibration.estimators import (
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
from blendmask_calibration.histogram import Histogram
from blendmask_calibration.record import CalibrationRecord

__all__ = [
    "ESTIMATORS",
    "CalibrationError",
    "CalibrationImage",
    "CalibrationRecord",
    "Entropy",
    "Estimator",
    "Finding",
    "Histogram",
    "ImageStatistics",
    "Limit",
    "Limits",
    "Max",
    "MeanSquaredError",
    "Percentile",
    "Range",
    "RangeCollector",
    "check_channel_order",
    "check_detections",
    "check_images",
    "describe",
    "estimator_named",
    "fingerprint",
    "image_statistics",
    "list_images",
    "near_duplicates",
    "other_files",
    "range_up_to",
    "refusals",
    "sample",
    "sha256_file",
    "squared_errors",
]
