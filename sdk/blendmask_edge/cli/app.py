"""`blendmask`: assemble the commands, one module each."""

import os
import warnings

import typer

from blendmask_edge.cli.arguments import Annotated
from blendmask_edge.cli.bench import bench
from blendmask_edge.cli.check import check
from blendmask_edge.cli.command_group import CommandGroup
from blendmask_edge.cli.compare import compare
from blendmask_edge.cli.compile import compile
from blendmask_edge.cli.info import info
from blendmask_edge.cli.output import say
from blendmask_edge.cli.predict import predict
from blendmask_edge.cli.report import report
from blendmask_edge.cli.sign import sign
from blendmask_edge.cli.signed import requiring_signature
from blendmask_edge.cli.targets import targets
from blendmask_edge.cli.verify import verify
from blendmask_edge.cli.verify_device import verify_device

_PIXELS = "OPENCV_IO_MAX_IMAGE_PIXELS"

app = typer.Typer(
    cls=CommandGroup,
    help="Quantize BlendMask and predict instance masks on edge devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from blendmask_edge import __version__

        say(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


for _command in (predict, info, bench, compare, report, targets, check, compile, verify_device):
    app.command()(requiring_signature(_command))
app.command()(sign)
app.command()(verify)


def main() -> None:
    """Run the command line; exits with 0 done, 1 refused or failed, 2 wrong usage, 3 a limit was left, 4 disturbed."""
    # Headers are checked before OpenCV sees a file; this is its own limit, which a library must not set for its host.
    if not os.environ.get(_PIXELS, "").isdigit():  # OpenCV ends the process where it is no number
        os.environ[_PIXELS] = str(2**28)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # what goes wrong is said once, by our errors
    warnings.filterwarnings("ignore", module="PIL")
    app(prog_name="blendmask")
