"""Count parameters and multiply-accumulates of each registered configuration.

    python -m bench.studies.models

Rows are configurations. The input is that of a 4:3 image at the configuration's test size (`height`, `width`), with the
configuration's own number of classes. `macs` include coefficients at selected locations only, as exported graphs
compute them. `published_mask_ap` and `published_box_ap` are AdelaiDet's on COCO val2017, quoted from its
`configs/BlendMask/README.md`; they were not measured here.
"""

from __future__ import annotations

from typing import Any

from bench.lib.study import study_parser, write_study
from blendmask_quantize import get_config, list_configs
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.input_size import padded_test_size
from blendmask_quantize.model.macs import count_macs

PUBLISHED = {
    "R_50_3x": (42.7, 37.8),
    "R_101_3x": (44.8, 39.5),
    "R_101_dcni3_5x": (46.8, 41.1),
    "550_R_50_3x": (38.7, 34.5),
    "RT_R_50_4x_syncbn_shtw": (39.3, 35.1),
    "RT_R_50_4x_bn-head_syncbn_shtw": (39.3, 35.1),
    "DLA_34_syncbn_4x": (40.8, 36.3),
}
"""Box and mask AP in percent, by configuration."""


def main() -> None:
    """Count and write bench/results/models.json."""
    options = study_parser(__doc__).parse_args()
    rows = [measure(name) for name in list_configs()]
    print(f"Written: {write_study('models', rows, options.output)}")


def measure(name: str) -> dict[str, Any]:
    """Return the row of one configuration."""
    config = get_config(name)
    model = BlendMask(config)
    height, width = padded_test_size(config.input)
    row: dict[str, Any] = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": count_macs(model),
        "height": height,
        "width": width,
        "classes": config.num_classes,
    }
    if name in PUBLISHED:
        row["published_box_ap"], row["published_mask_ap"] = (ap / 100 for ap in PUBLISHED[name])
    return row


if __name__ == "__main__":
    main()
