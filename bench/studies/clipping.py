"""Compare masks of truncated instances: pooled from the whole box, as the reference does, or from its visible part.

    python -m bench.studies.clipping --data HOMESCENES

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`. One checkpoint runs in torch twice, with
`clip_before_pooling` off (`whole`) and on (`visible`). Boxes and scores are the same, so only masks can differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.lib.scenes import SPLITS, accuracy, scenes_parser
from bench.lib.study import write_study
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.predictor import TorchPredictor

MASKS = {"whole": False, "visible": True}
"""Names of the rows, and whether boxes are clipped before their masks are made."""


def main() -> None:
    """Measure and write bench/results/clipping.json."""
    options = scenes_parser(__doc__, "checkpoint", "limit").parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    rows = [measure(checkpoint, masks, options.data, split, options.limit) for split in SPLITS for masks in MASKS]
    print(f"Written: {write_study('clipping', rows, options.output)}")


def measure(checkpoint: Checkpoint, masks: str, data: Path, split: str, limit: int | None) -> dict[str, Any]:
    """The row of one kind of mask on one split."""
    predict = TorchPredictor(checkpoint.model, checkpoint.labels, clip_before_pooling=MASKS[masks])
    return {"name": f"{masks}/{split}", **accuracy(predict, data, split, limit)}


if __name__ == "__main__":
    main()
