"""Record what `blendmask check` says of the shipped bundle for each device, and how its graph parses without a GPU.

    make demo targets-check
    PYTHONPATH=$(echo .venv-trt/rtx-*) .venv-trt/bin/python -m bench.studies.targets

Nothing runs on a GPU. `TARGET/check` is 1 if the check accepts INT8 in the target's own runtime. `TARGET/ahead-of-time`
is 1 if TensorRT-RTX builds the graph for the target's SM. `parser`, `build` and `converters` have layers and size for
the shipped graph, and for RT_R_50 and DLA-34 with random weights at 256 x 352; `half` builds what TensorRT 11 gets;
`straight` converts the program from the network, `converters` that from the graph. The plans are those of TensorRT-RTX;
TensorRT's sizes differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.lib.quantized_graphs import as_onnx, dla_34_network, rt_r_50_network, shipped_network
from bench.lib.study import study_parser, write_study
from bench.lib.without_gpu import LAYERS, Network, RefusedError, convert, onnx_counts, parse, segments
from blendmask_edge import Bundle
from blendmask_edge.devices import check_bundle, load_table
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.torch_tensorrt.program import export_network, export_program

SMS = {"7.5": "turing", "8.6": "rtx-30", "12.0": "rtx-50"}
_BUNDLE = Path(__file__).parents[2] / "out" / "demo" / "lite0_rt.bmz"

Row = dict[str, Any]


def main() -> None:
    """Check, parse, build and convert, and write bench/results/targets.json."""
    options = _parse_arguments()
    bundle = Bundle.open(options.bundle)
    networks = {"shipped": shipped_network(), "rt_r_50": rt_r_50_network(), "dla_34": dla_34_network()}
    graphs = {name: as_onnx(network) for name, network in networks.items()} | {"shipped": bundle.graph("tensorrt")}
    rows = [*check_rows(bundle), *(row for name in graphs for row in structure_rows(name, graphs[name]))]
    rows += [row for name in networks for row in converted_rows(name, graphs[name], networks[name])]
    built = {row["name"]: row for row in rows}
    rows += [
        {"name": f"{target}/ahead-of-time", "passed": built[f"build/shipped/sm{sm}"]["passed"]}
        for sm, target in SMS.items()
    ]
    for row in rows:
        print(f"{row['name']:<28}" + "  ".join(f"{name} {row[name]}" for name in row if name != "name"))
    print(f"Written: {write_study('targets', rows, options.output)}")


def check_rows(bundle: Bundle) -> Iterator[Row]:
    """One row a target."""
    for target in load_table().targets:
        yield {"name": f"{target.name}/check", "passed": int(check_bundle(bundle, target).ok)}


def structure_rows(name: str, graph: bytes) -> Iterator[Row]:
    """Rows of a graph: the parser, and a build for each SM."""
    nodes = onnx_counts(graph)
    pairs = {"QUANTIZE": nodes["QuantizeLinear"], "DEQUANTIZE": nodes["DequantizeLinear"], "CONVOLUTION": nodes["Conv"]}
    yield _row(f"parser/{name}", lambda: parse(graph), pairs)
    for sm in SMS:
        yield _row(f"build/{name}/sm{sm}", lambda sm=sm: parse(graph, sm), {})  # type: ignore[misc]
    for sm in (*SMS, "8.9"):
        half = lambda sm=sm: parse(half_remainder(graph), sm)  # noqa: E731
        yield _row(f"half/{name}/sm{sm}", half, pairs)


def converted_rows(name: str, graph: bytes, network: DeployableGraph) -> Iterator[Row]:
    """Rows of the programs for Torch-TensorRT: straight from the network, and from the graph."""
    nodes = onnx_counts(graph)
    whole = dict.fromkeys(("QUANTIZE", "DEQUANTIZE"), nodes["DequantizeLinear"]) | {"CONVOLUTION": nodes["Conv"]}
    for way, make in (("straight", lambda: export_network(network)), ("converters", lambda: export_program(graph))):
        row = _row(f"{way}/{name}", lambda make=make: convert(make(), "8.6", build=True), whole)  # type: ignore[misc]
        if row["passed"]:
            row["segments"] = len(segments(make(), "8.6"))
            row["passed"] = int(row["segments"] == 1)
        yield row


def _row(name: str, run: Callable[[], Network], expected: Mapping[str, int]) -> Row:
    """The row of what `run` gives; it passes with the expected number of layers of each type, none unknown."""
    try:
        network = run()
    except RefusedError as error:
        return {"name": name, "passed": 0, "error": str(error)}
    layers = network.layers
    passed = all(layers[kind] == count for kind, count in expected.items()) and set(layers) <= LAYERS
    counted = {f"{kind.lower()}_layers": layers[kind] for kind in ("QUANTIZE", "DEQUANTIZE", "CONVOLUTION")}
    size = {"size_bytes": network.plan_bytes} if network.plan_bytes else {}
    return {"name": name, "passed": int(passed), "layers": layers.total(), **counted, **size}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="bundle of the shipped model, as of `make demo`")
    return parser.parse_args()


if __name__ == "__main__":
    main()
