"""Parameters of the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from blendmask_edge.arguments.values import is_number
from blendmask_edge.errors import ConfigError


class Parameter(NamedTuple):
    """Name, default and description of a parameter of the node."""

    name: str
    default: Any
    description: str


PARAMETERS = (
    Parameter("bundle", "", "path of the .bmz file"),
    Parameter("runtime", "auto", "runtime of the network; auto takes the fastest installed one"),
    Parameter("threads", 0, "threads of the network; 0 leaves the number to the runtime"),
    Parameter("score_threshold", -1.0, "least score of a detection, 0 to 1; -1 takes the bundle's display threshold"),
    Parameter("classes", [""], "names of the classes to publish; an empty name alone publishes all"),
    Parameter("compressed", False, "whether images come as sensor_msgs/CompressedImage"),
    Parameter("overlay", True, "whether to publish the image with masks drawn on it"),
    Parameter("track", False, 'identities from frame to frame; needs the extra "track"'),
    Parameter("public_key", "", "Ed25519 public key in PEM format that must have signed the bundle; empty for none"),
)


@dataclass(frozen=True)
class NodeParameters:
    """Values of the parameters, with None for what was left out; see `PARAMETERS`."""

    bundle: str
    runtime: str = "auto"
    threads: Optional[int] = None
    score_threshold: Optional[float] = None
    classes: Optional[Tuple[str, ...]] = None
    compressed: bool = False
    overlay: bool = True
    track: bool = False
    public_key: Optional[str] = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> NodeParameters:
        """Return the parameters of values by name, as a node has them.

        Raises:
            ConfigError: the bundle is missing, or a value has another type.
        """
        for parameter in PARAMETERS:
            _check(parameter, values[parameter.name])
        if not values["bundle"]:
            raise ConfigError(
                "The parameter bundle is empty, expected the path of a .bmz file. "
                "Type: ros2 run blendmask_ros2 masks --ros-args -p bundle:=/PATH/model.bmz"
            )
        threshold = values["score_threshold"]
        return cls(
            bundle=values["bundle"],
            runtime=values["runtime"],
            threads=values["threads"] or None,
            score_threshold=None if threshold == -1 else float(threshold),
            classes=tuple(name for name in values["classes"] if name) or None,
            compressed=values["compressed"],
            overlay=values["overlay"],
            track=values["track"],
            public_key=values["public_key"] or None,
        )

    @property
    def predictor_arguments(self) -> Dict[str, Any]:
        """Arguments of `MaskPredictor`."""
        return {
            "path": self.bundle,
            "runtime": self.runtime,
            "threads": self.threads,
            "score_threshold": self.score_threshold,
            "public_key": self.public_key,
        }


def _check(parameter: Parameter, value: Any) -> None:
    """See that a value has the type of the default; a number without a point is a float, too."""
    expected = type(parameter.default)
    if expected is list:
        is_right = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    elif expected is float:
        is_right = is_number(value)
    else:
        is_right = type(value) is expected
    if not is_right:
        kind = "list of str" if expected is list else expected.__name__
        raise ConfigError(f"The parameter {parameter.name} is {value!r}, expected {kind}: {parameter.description}.")
