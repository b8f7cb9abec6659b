"""Measure the SDK as a robot uses it: streams, large images, identities, a long time, the install.

    python -m bench.studies.robot M.bmz --data HOMESCENES
    python -m bench.studies.robot M.bmz --data HOMESCENES --parts tiles

`stream`: a video of 640 x 480 is predicted frame by frame, which gives the time of each stage alone, and as a stream
that drops nothing, in alternating rounds with the same threads, with all instances that the graph outputs.
`stream_share` is the rate of the stream over the one that the slowest stage alone allows. `stream/paced` is a camera
of twice that rate, whose oldest frames are dropped.

`outside/MODEL/SIZE/INSTANCES`: time of a frame outside of the network, on one thread: preprocess, instances, and masks
as crops or as RLE, with masks of ellipses; `outside_share` is that of preprocess, instances and crops in a whole frame.
`--others` adds bundles.

`4k/single`, `4k/tiles`: images of 3840 x 2160 in which ten scenes of the held-out split lie at their own size, so that
most instances are small; mask AP of one call and of tiles of the network's input. Independent of other work.

`identities`: clips that the generator of homescenes renders while its camera moves; identity switches of the tracker
against the rendered identities. Needs the packages of `track` and of the generator, and OSMesa. Independent of other
work.

`soak/...`: many frames, many predictors, and hours of simulated time with faults, with a network of a few operators:
what is left of memory, threads and descriptors, and what became of each fault. Independent of other work.

`install/VERSION`: megabytes and packages of the wheel with the extra `cpu` in an empty environment of each of
`--pythons`, and of its largest packages; `install/VERSION/needed` is without those that prediction never imports, and
predicts to prove it. `start/VERSION` is the time of `import blendmask_edge` and from the start of Python to the first
mask, and the peak memory, there.

`decode/SIZE`: time of `decode_image` for a JPEG over that of OpenCV, in turn, with simplejpeg and by Pillow alone.

Nothing else may run beside `stream`, `outside` and `start`: a disturbed round is repeated, and refused in the end.
Rows of parts that are left out stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.lib.robot.day import day_rows
from bench.lib.robot.decode import decode_rows
from bench.lib.robot.identities import identity_rows
from bench.lib.robot.install import install_rows, start_rows
from bench.lib.robot.large_images import tile_rows
from bench.lib.robot.outside import outside_rows
from bench.lib.robot.soak import soak_rows
from bench.lib.robot.stream import stream_rows
from bench.lib.scenes import scenes_parser
from bench.lib.study import read_rows, run_study, write_study

PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "install": install_rows,
    "start": start_rows,
    "stream": stream_rows,
    "outside": outside_rows,
    "tiles": tile_rows,
    "identities": identity_rows,
    "soak": soak_rows,
    "day": day_rows,
    "decode": decode_rows,
}


def main() -> None:
    """Measure, and write bench/results/robot.json after each part."""
    options = _parse_arguments()
    for part in options.parts:
        rows = read_rows("robot", options.output)
        for row in PARTS[part](options):
            rows[row["name"]] = row
            print(f"{row['name']:<16}" + "  ".join(f"{name} {_shown(row[name])}" for name in row if name != "name"))
        print(f"Written: {write_study('robot', list(rows.values()), options.output)}", flush=True)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS), help="what to measure")
    parser.add_argument("--threads", type=int, default=1, help="of the network in the stream")
    parser.add_argument(
        "--busy", action="store_true", help="accept other work beside the times, and say so in the rows"
    )
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="more bundles for the part outside")
    parser.add_argument("--images", type=int, default=20, help="large images, of ten scenes each")
    parser.add_argument("--overlap", type=float, default=0.25, help="share of a tile that its neighbor covers as well")
    parser.add_argument("--frames", type=int, default=100_000, help="of the soak")
    parser.add_argument("--cycles", type=int, default=1000, help="of opening and closing a predictor")
    parser.add_argument("--hours", type=float, default=24, help="of simulated time")
    parser.add_argument("--rate", type=float, default=1.0, help="frames per simulated second")
    parser.add_argument("--clips", type=int, default=6, help="with a moving camera")
    parser.add_argument("--wheel", type=Path, help="for the parts install and start; `make wheel` builds it")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="interpreters of these parts")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
