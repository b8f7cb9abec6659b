"""Hold a run against a baseline: what moved, and whether it stayed inside the limits on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from blendmask_edge.benchmark.baseline import Baseline, is_accuracy, is_time
from blendmask_edge.benchmark.latency import TAIL
from blendmask_edge.errors import DisturbedError, RegressionError

QUIET = "Measure on a quiet machine, or compare accuracy alone with --accuracy-only."
WITHIN, WORSE, BETTER, MISSING = "within", "worse", "better", "missing"


@dataclass(frozen=True)
class Change:
    """One limited metric: what it was and is (None if it was not measured), and the range it may be in."""

    metric: str
    before: float
    now: Optional[float]
    low: float
    high: float

    @property
    def result(self) -> str:
        """Return "within", "worse", "better" or "missing"."""
        if self.now is None:
            return MISSING
        if self.low <= self.now <= self.high:
            return WITHIN
        return WORSE if (self.now < self.low) == _more_is_better(self.metric) else BETTER


def compare(baseline: Baseline, metrics: Mapping[str, float], accuracy_only: bool = False) -> Tuple[Change, ...]:
    """Return each limited metric as it was and is, in the order of the baseline.

    The limit on the tail of the latency is left out where too few frames were timed to have one.

    Args:
        baseline: record and limits.
        metrics: of the run.
        accuracy_only: leave the limits on time and memory out.
    """
    changes = []
    for name, limit in baseline.limits.items():
        if name == TAIL and name not in metrics:
            continue
        before = baseline.record.metrics[name]
        down, up = (limit.worse, limit.better) if _more_is_better(name) else (limit.better, limit.worse)
        if is_accuracy(name) or not accuracy_only:
            changes.append(Change(name, before, metrics.get(name), before * max(0.0, 1 - down), before * (1 + up)))
    return tuple(changes)


def require_within(changes: Sequence[Change], disturbances: Sequence[str] = ()) -> None:
    """Check that everything stayed inside its limits.

    Args:
        changes: from `compare`.
        disturbances: signs that the measurement was disturbed. Its times are then left aside; accuracy and memory hold.

    Raises:
        RegressionError: something is worse, missing, or better than its limit; the message names it.
        DisturbedError: accuracy and memory stayed inside their limits, and times cannot be compared.
    """
    timed = [change for change in changes if is_time(change.metric)]
    if timed and disturbances:
        require_within([change for change in changes if not is_time(change.metric)])
        raise DisturbedError(f"Times cannot be compared with the baseline. {' '.join(disturbances)} {QUIET}")
    worse = _named([change for change in changes if change.result in (WORSE, MISSING)])
    better = _named([change for change in changes if change.result == BETTER])
    if worse:
        also = f" (better: {better})" if better else ""
        raise RegressionError(
            f"Worse than the baseline allows: {worse}{also}. Find the cause, or accept it with --update-baseline."
        )
    if better:
        raise RegressionError(
            f"Better than the baseline allows: {better}. See that it is meant, and record it with --update-baseline."
        )


def _more_is_better(metric: str) -> bool:
    return is_accuracy(metric) or metric == "fps"


def _named(changes: List[Change]) -> str:
    return ", ".join(f"{change.metric} {_shown(change)}" for change in changes)


def _shown(change: Change) -> str:
    if change.now is None:
        return "not measured"
    return f"{change.now:.4g} (was {change.before:.4g}, may be {change.low:.4g} to {change.high:.4g})"
