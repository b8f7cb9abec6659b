"""Arguments and options that several commands share."""

# No postponed annotations here and in the commands: on Python 3.8 and 3.9 typer would not see what `Annotated` adds.
import sys
from pathlib import Path
from typing import Optional

import typer

if sys.version_info >= (3, 9):
    from typing import Annotated
else:
    from typing_extensions import Annotated

BundleArgument = Annotated[Path, typer.Argument(metavar="M.bmz", help="The bundle.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
TargetOption = Annotated[str, typer.Option(metavar="T", help="A name of `blendmask targets`.", show_default=False)]
PrecisionOption = Annotated[str, typer.Option(help="int8, fp16 or fp32.")]
ThreadsOption = Annotated[Optional[int], typer.Option(help="Threads; the runtime's choice if left out.")]

__all__ = ["Annotated", "BundleArgument", "JsonOption", "PrecisionOption", "TargetOption", "ThreadsOption"]
