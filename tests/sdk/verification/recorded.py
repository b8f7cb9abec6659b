"""Answers of devices, in the form in which NVIDIA's documentation and users' reports show them.

No device of ours gave them: they stand in for one, so that everything but the device is tested.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List

NVIDIA_SMI = "1410, 7000, 61, 143.27, 98, 2215\n"
NVIDIA_SMI_WITHOUT_POWER = "1410, 7000, 61, [N/A], [Not Supported], 2215\n"
NVIDIA_SMI_POWER = "200.00 W, 2100 MHz, Enabled\n"
TEGRASTATS_JETPACK_5 = (
    "RAM 2786/15388MB (lfb 2756x4MB) SWAP 0/7694MB (cached 0MB) CPU [12%@1420,3%@1420,off,off] EMC_FREQ 4%@2133 "
    "GR3D_FREQ 87%@624 GR3D2_FREQ 0%@1 VIC_FREQ 729 APE 174 CPU@50.5C SOC2@49.1C GPU@48.7C tj@50.5C "
    "VDD_IN 6217mW/6120mW VDD_CPU_GPU_CV 1841mW/1800mW VDD_SOC 1521mW/1500mW\n"
)
TEGRASTATS_JETPACK_6 = (
    "11-30-2026 10:00:00 RAM 2448/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@1510,2%@1510] "
    "EMC_FREQ 1%@3199 GR3D_FREQ 99%@[1007] VIC_FREQ 0%@435 APE 174 cpu@55.0C soc2@52.4C gpu@56.2C tj@56.2C "
    "VDD_IN 14920mW/14800mW VDD_CPU_GPU_CV 8120mW/8000mW\n"
)
NVPMODEL = "NV Power Mode: MAXN_SUPER\n2\n"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
HALF = "Row major linear FP16 format"
FLOAT = "Row major linear FP32"


def layer(name: str, datatype: str, kind: str = "CaskConvolution", metadata: str = "") -> Dict[str, Any]:
    """Return a layer as the engine inspector describes it with detailed verbosity."""
    tensor = {"Name": "x", "Location": "Device", "Dimensions": [1, 32, 8, 8], "Format/Datatype": datatype}
    return {
        "Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor], "TacticName": "sm80_xmma",
        "StreamId": 0, "Metadata": metadata,
    }  # fmt: skip


def information(layers: List[Any]) -> str:
    """Return what `get_engine_information` returns for these layers."""
    return json.dumps({"Layers": layers, "Bindings": ["image", "boxes"]})
