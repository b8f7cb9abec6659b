"""The decision for or against training with quantizers: gains beyond chance alone, the same every time."""

from __future__ import annotations

import pytest

from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.qat.decision import Decision, decide
from tests.quantize.quantization.qat.matches import detecting


def _both(matches: Matches) -> dict[str, Matches]:
    return dict.fromkeys(VARIANTS, matches)


def _decide(ptq: tuple[int, ...], qat: tuple[int, ...]) -> Decision:
    return decide(_both(detecting(*ptq)), _both(detecting(*qat)), len(ptq))


def test_a_gain_in_every_image_is_kept() -> None:
    decision = _decide((1,) * 12, (2,) * 12)
    assert decision.kept == "qat"
    assert decision.low > 0
    assert decision.gain == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_a_gain_in_one_image_may_be_chance() -> None:
    decision = _decide((1,) * 12, (2,) + (1,) * 11)
    assert decision.gain > 0
    assert decision.kept == "ptq"
    assert decision.low <= 0 <= decision.gain <= decision.high
    assert "beyond chance" in str(decision)


def test_no_gain_and_a_loss_keep_ptq() -> None:
    assert _decide((1,) * 4, (1,) * 4).kept == "ptq"
    assert _decide((2,) * 4, (1,) * 4).kept == "ptq"


@pytest.mark.slow
def test_the_same_detections_decide_the_same_way() -> None:
    counts = (1, 2, 0, 1, 2, 1), (2, 2, 1, 1, 2, 1)
    assert _decide(*counts) == _decide(*counts)
