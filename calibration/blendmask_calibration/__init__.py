"""Select calibration images, check them, and estimate quantization ranges.

    import numpy as np
    from blendmask_calibration import RangeCollector, estimator_named

    collector = RangeCollector()
    for seed in range(8):
        activations = np.random.default_rng(seed).normal(size=(64, 48, 48))
        collector.observe("conv1", activations)
    print(collector.ranges(estimator_named("mse")))

The names in `__all__` are public. The package depends on numpy only and knows neither the network nor the runtime.
"""

from blendmask_calibration.checks.findings import Finding, refusals
from blendmask_calibration.checks.guard import check_channel_order, check_detections, check_images
from blendmask_calibration.checks.limits import Limit, Limits
from blendmask_calibration.checks.statistics import ImageStatistics, image_statistics
from blendmask_calibration.dataset import CalibrationDataset
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
from blendmask_calibration.images import (
    CalibrationImage,
    describe,
    describe_pixels,
    fingerprint,
    near_duplicates,
    sha256_file,
    sha256_pixels,
)
from blendmask_calibration.record import CalibrationRecord
from blendmask_calibration.sampling import list_images, other_files, sample

__all__ = [
    "ESTIMATORS",
    "CalibrationDataset",
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
    "describe_pixels",
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
    "sha256_pixels",
    "squared_errors",
]
