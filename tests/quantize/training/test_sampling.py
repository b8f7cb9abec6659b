"""Repeat-factor sampling: rare classes more often, every pass equally long, every image at least once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.sampling import SamplingOptions, repeat_factors, repeated
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.tiny import LABELS

NAMES = LABELS.names
PRESENCE = np.array([[True, False, False]] * 12 + [[True, True, False]] * 3 + [[False, False, True]])


@dataclass
class Numbers:
    """Images whose sample is their number."""

    presence: np.ndarray
    labels = LABELS

    def __len__(self) -> int:
        return len(self.presence)

    def sample(self, index: int, _: np.random.Generator) -> int:
        return index


def shown(sampling: SamplingOptions, passes: int, seed: int = 0) -> tuple[list[int], int]:
    """The images of some passes, and how long a pass is."""
    stream = AugmentedStream([Numbers(PRESENCE)], 10**6, seed, sampling)
    length = round(float(stream.factors.sum()))
    return [stream[item] for item in range(passes * length)], length


class TestFactors:
    def test_a_class_in_a_quarter_of_the_threshold_is_shown_twice_as_often(self):
        presence = np.array([[True, False]] * 15 + [[False, True]])
        factors = repeat_factors(presence, ("a", "b"), SamplingOptions(0.25))
        assert factors.tolist() == [1.0] * 15 + [2.0]

    def test_a_image_follows_its_rarest_class(self):
        factors = repeat_factors(PRESENCE, NAMES, SamplingOptions(0.75))
        assert factors[0] == 1
        assert factors[12] == pytest.approx(2)
        assert factors[15] == pytest.approx((0.75 * 16) ** 0.5)

    def test_class_weights_multiply(self):
        factors = repeat_factors(PRESENCE, NAMES, SamplingOptions(0.75, (("plate", 3.0),)))
        assert factors[12] == pytest.approx(6)
        assert factors[0] == 1

    def test_images_without_instances_are_shown_once(self):
        assert repeat_factors(np.zeros((4, 3), bool), NAMES, SamplingOptions(0.5)).tolist() == [1.0] * 4

    @pytest.mark.parametrize("make, message", [
        (lambda: SamplingOptions(2.0), "a share of the images"),
        (lambda: SamplingOptions(0, (("cup", 0.5),)), "factor of at least 1"),
        (lambda: repeat_factors(PRESENCE, NAMES, SamplingOptions(0, (("cop", 2.0),))), "did you mean cup"),
    ])  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, make, message):
        with pytest.raises(ConfigError, match=message):
            make()


class TestRepeating:
    @given(st.lists(st.floats(1, 5), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True))
    def test_each_row_comes_its_factor_rounded_up_or_down_and_all_are_equally_many(self, factors, offset):
        rows = repeated(np.array(factors), offset)
        total = round(sum(factors))
        assert len(rows) == total
        counts = np.bincount(rows, minlength=len(factors))
        assert (np.abs(counts - np.array(factors) * total / sum(factors)) < 1 + 1e-9).all()

    def test_over_many_passes_each_image_comes_as_often_as_its_factor(self):
        items, _ = shown(SamplingOptions(0.75), 200)
        counts, factors = Counter(items), repeat_factors(PRESENCE, NAMES, SamplingOptions(0.75))
        assert [counts[index] / 200 for index in range(16)] == pytest.approx(factors.tolist(), rel=0.05)

    def test_without_a_balance_each_pass_is_a_permutation(self):
        items, length = shown(SamplingOptions(), 3)
        assert length == 16
        for first in (0, 16, 32):
            assert sorted(items[first : first + 16]) == list(range(16))
        assert items[:16] != items[16:32]

    def test_the_seed_decides(self):
        assert shown(SamplingOptions(0.75), 3)[0] == shown(SamplingOptions(0.75), 3)[0]
        assert shown(SamplingOptions(0.75), 3)[0] != shown(SamplingOptions(0.75), 3, seed=1)[0]
