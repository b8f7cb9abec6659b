"""Publish the instance masks of camera images.

ros2 run blendmask_ros2 masks --ros-args -p bundle:=/PATH/kitchen.bmz -r image:=/camera/image_raw
"""

from __future__ import annotations

import sys

from blendmask_edge import BlendMaskError, MaskPredictor
from blendmask_edge.integrations.ros2 import run


def main() -> None:
    """Run the node until it is interrupted."""
    try:
        sys.exit(run(MaskPredictor))
    except BlendMaskError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
