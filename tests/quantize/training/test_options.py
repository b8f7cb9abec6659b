"""Options of a run: what is out of range, and what cannot learn, is refused with a number and a next step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from blendmask_edge.errors import ConfigError
from blendmask_quantize.pruning.options import PruneOptions
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.loss_options import LossOptions
from blendmask_quantize.training.options import TrainOptions, resolved
from blendmask_quantize.training.sampling import SamplingOptions

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 0}, "batch is 0: give a whole number of at least 1"),
        ({"batch": 2.5}, r"batch is 2\.5: give a whole number"),
        ({"batch": True}, "batch is True: give a whole number"),
        ({"batch": 10**9}, "batch is 1000000000: give a whole number of at least 1 and at most 16384"),
        ({"iterations": 10**30}, "iterations is 10+: give a whole number of at least 0 and at most 1000000000"),
        ({"workers": -1}, "workers is -1"),
        ({"workers": 100_000}, "workers is 100000: .* at most 1024"),
        ({"devices": 0}, "devices is 0"),
        ({"save_every": 0}, "save_every is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"frozen_stages": -1}, "frozen_stages is -1"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: give a number of at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"ema": 1.0}, "ema is 1.0: give a number of at least 0 and less than 1"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"weight_decay": 10**400}, "weight_decay is 1000"),
        ({"momentum": -(10**400)}, "momentum is -1000"),
        ({"tensorboard": np.zeros(3)}, "tensorboard is array.*: give a value of type bool"),
        ({"sampling": None}, "sampling is None: give a value of type SamplingOptions"),
        ({"losses": {}}, "losses is {}: give a value of type LossOptions"),
        ({"augmentation": "strong"}, "augmentation is 'strong': give a value of type Augmentation"),
        ({"schedule": np.zeros(3)}, "no schedule is called"),
        ({"optimizer": "adam"}, "did you mean adamw"),
        ({"precision": "bf16"}, "did you mean bf16-mixed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_values_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**change)


def test_numbers_of_numpy_are_taken_and_can_be_recorded() -> None:
    options = TrainOptions(iterations=np.int64(10), learning_rate=np.float32(0.5), clip=np.float64(2))
    assert options == TrainOptions(iterations=10, learning_rate=0.5, clip=2.0)
    assert msgspec.json.encode(resolved(options)) == msgspec.json.encode(resolved(TrainOptions(**vars(options))))
    pruning = PruneOptions(batches=np.int64(2), multiple=np.int32(16), training=options)
    assert msgspec.json.decode(msgspec.json.encode(pruning))["multiple"] == 16


@pytest.mark.parametrize(
    "change, message",
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0, no weight would change"),
        ({"iterations": 100, "warmup": 100}, "a warm-up of 100 steps in a run of 100: .* give more iterations"),
        ({"iterations": 300, "ema": 0.998}, "averages the weights of about 500 steps, the run has 300"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_schedule_that_cannot_learn_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**change).check_learns()


@pytest.mark.parametrize("iterations", [1, 2, 7, 8, 9, 100, 1999, 4000, 90000])
def test_left_out_warm_up_and_average_suit_every_length(iterations: int) -> None:
    options = TrainOptions(iterations=iterations)
    options.check_learns()
    assert options.warmup_steps <= 200
    assert options.ema_decay <= 0.998


def test_a_long_run_has_the_usual_ones() -> None:
    result = resolved(TrainOptions())
    assert (result.warmup, result.ema) == (200, 0.998)
    assert resolved(replace(result, iterations=100)).warmup == 200


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Augmentation(crop=(300, 400)), "multiples of 32"),
        (lambda: Augmentation(crop=(320, 2**20)), "up to 16384"),
        (lambda: Augmentation(crop=("a", 32)), "a crop of ax32"),
        (lambda: Augmentation(crop=320), "crop is 320: give two numbers"),
        (lambda: Augmentation(scale=(2, 1)), "in order"),
        (lambda: Augmentation(scale=(0, 1)), "two positive numbers"),
        (lambda: Augmentation(scale=(1, INF)), "scale is inf: give a number"),
        (lambda: Augmentation(scale="2"), "scale is '2': give two numbers"),
        (lambda: Augmentation(rotation=NAN), "rotation is nan"),
        (lambda: Augmentation(brightness=INF), "brightness is inf"),
        (lambda: Augmentation(flip="often"), "flip is 'often': give a probability"),
        (lambda: Augmentation(paste=NAN), "paste is nan: give a probability"),
        (lambda: Augmentation(paste_most=1.5), "paste_most is 1.5"),
        (lambda: LossOptions(mask_positives=0), "mask_positives is 0"),
        (lambda: LossOptions(mask_positives="all"), "mask_positives is 'all'"),
        (lambda: LossOptions(dice_weight=INF), "dice_weight is inf: give a number of at least 0"),
        (lambda: LossOptions(dice_weight=True), "dice_weight is True"),
        (lambda: LossOptions(semantic_weight=NAN), "semantic_weight is nan"),
        (lambda: LossOptions(focal_gamma=-1), "focal_gamma is -1"),
        (
            lambda: SamplingOptions(threshold=NAN),
            "the threshold of sampling is nan: give a share of the images",
        ),
        (lambda: SamplingOptions(threshold="0.1"), "the threshold of sampling is '0.1'"),
        (lambda: SamplingOptions(class_weights=(("mug", NAN),)), "the weight of mug is nan"),
        (lambda: SamplingOptions(class_weights=(("mug", INF),)), "the weight of mug is inf"),
        (lambda: SamplingOptions(class_weights=(("mug", 0.5),)), "the weight of mug is 0.5: .* at least 1"),
        (lambda: SamplingOptions(class_weights=("mug",)), "class_weights holds 'mug'"),
        (lambda: SamplingOptions(class_weights=None), r"class_weights holds \(\)"),
    ],
)
def test_parts_that_no_run_could_use_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
