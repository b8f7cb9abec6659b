"""What the shrink study compares: pruned checkpoints, ways to choose channels, and bundles."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch

FLOAT = "float"
WHOLE = ""
RATIO = 0.7
"""Share of the multiply-accumulates that recipes `edge` and `edge-sparse` keep."""
PRUNED: dict[str, tuple[object, ...]] = {
    "pruned-70": ("--macs", RATIO), "pruned-50": ("--macs", 0.5), "pruned-30": ("--macs", 0.3),
    "latency-50": ("--latency", 0.5),
}  # fmt: skip
"""Options of `blendmask prune`, by the name of the pruned checkpoint."""
CHOICES: dict[str, tuple[object, ...]] = {
    "taylor": ("--importance", "taylor"),
    "taylor-distill": ("--importance", "taylor", "--distill"),
    "magnitude-distill": ("--importance", "magnitude", "--distill"),
    "bn_scale-distill": ("--importance", "bn_scale", "--distill"),
    "taylor-distill-rounds": ("--importance", "taylor", "--distill", "--rounds", 3),
}
"""Options of `blendmask prune` that are compared, by the name of their rows."""
CHOSEN = ("--importance", "taylor", "--distill")
"""Those that the pruned checkpoints are made with."""


@dataclass(frozen=True)
class Experiment:
    """One bundle of the study.

    Attributes:
        name: of its rows.
        recipe: of `blendmask quantize`.
        labels: whether it is trained with labels.
        pruned: name of the pruned checkpoint that it is made of; `WHOLE` for the whole network.
        float_name: name of the rows of its float graph; None leaves that graph out.
    """

    name: str
    recipe: str
    labels: bool = False
    pruned: str = WHOLE
    float_name: str | None = None

    @property
    def file_name(self) -> str:
        """Name of its files, without suffix."""
        return self.name.replace("/", "-")

    @property
    def graphs(self) -> dict[str, str]:
        """Variants whose accuracy is measured, by the name of their rows."""
        return {**self._floats, f"{self.name}/cpu": "cpu", f"{self.name}/tensorrt": "tensorrt"}

    @property
    def timed(self) -> dict[str, str]:
        """Variants that are timed, by the name of their rows."""
        return {**self._floats, self.name: "cpu"}

    @property
    def _floats(self) -> dict[str, str]:
        return {self.float_name: FLOAT} if self.float_name else {}


EXPERIMENTS = (
    Experiment("ptq", "ptq", float_name=FLOAT),
    Experiment("qat/labels", "qat", labels=True),
    Experiment("qat/no-labels", "qat"),
    *(Experiment(f"{name}/ptq", "ptq", pruned=name, float_name=name) for name in PRUNED),
    *(Experiment(f"{name}/qat", "qat", labels=True, pruned=name) for name in PRUNED),
    Experiment("edge", "edge", labels=True),
    Experiment("edge-sparse", "edge-sparse", labels=True),
)


def selected(patterns: list[str]) -> list[Experiment]:
    """The experiments whose name fits one of the patterns, and the first, which gives the float graph."""
    first, *others = EXPERIMENTS
    return [first, *(each for each in others if any(fnmatch(each.name, pattern) for pattern in patterns))]
