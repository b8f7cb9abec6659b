"""`blendmask compile`."""

from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, PrecisionOption, TargetOption
from blendmask_edge.cli.output import print_json, say


def compile(
    bundle: BundleArgument,
    target: TargetOption,
    precision: PrecisionOption = "int8",
    workspace: Annotated[Optional[int], typer.Option(metavar="MIB", help="Most memory for one layer.", min=1)] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt or torch_tensorrt.")] = "tensorrt",
    as_json: JsonOption = False,
) -> None:
    """Compile a bundle for the device that this runs on, by TensorRT or Torch-TensorRT, into the cache."""
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.compilation.compiler import compile_bundle
    from blendmask_edge.compilation.options import CompileOptions
    from blendmask_edge.devices.result import as_precision

    options = CompileOptions(as_precision(precision), workspace, runtime.replace("-", "_"))
    engine = compile_bundle(Bundle.open(bundle), target, options=options)
    if as_json:
        print_json(engine)
        return
    say(f"The engine lies in {engine.path}" + (", built before" if engine.reused else ""))
    say(f"Next: blendmask predict {bundle} IMAGE... --runtime {options.runtime}")
