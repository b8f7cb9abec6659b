"""`blendmask compile`."""

from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, PrecisionOption, TargetOption
from blendmask_edge.cli.output import print_json, say


def compile(
    bundle: BundleArgument,
    target: TargetOption,
    precision: PrecisionOption = "int8",
    workspace: Annotated[
        Optional[int], typer.Option(metavar="MIB", help="Memory limit of one layer during the build, in MiB.", min=1)
    ] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt or torch_tensorrt.")] = "tensorrt",
    as_json: JsonOption = False,
) -> None:
    """Compile a bundle for this device, and store the engine in the cache."""
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.compilation.compiler import compile_bundle
    from blendmask_edge.compilation.options import CompileOptions
    from blendmask_edge.devices.result import as_precision

    options = CompileOptions(as_precision(precision), workspace, runtime.replace("-", "_"))
    engine = compile_bundle(Bundle.open(bundle), target, options=options)
    if as_json:
        print_json(engine)
        return
    say(f"{'Found the engine in' if engine.reused else 'Saved the engine to'} {engine.path}")
    say(f"Next: blendmask predict {bundle} IMAGE... --runtime {options.runtime}")
