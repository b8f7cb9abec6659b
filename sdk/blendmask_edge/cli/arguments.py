"""Arguments and options that several commands have in common."""

# No postponed annotations here and in the commands: with them, typer ignores `Annotated` on Python 3.8 and 3.9.
import sys
from pathlib import Path
from typing import List, Optional

import typer

if sys.version_info >= (3, 9):
    from typing import Annotated
else:
    from typing_extensions import Annotated

BundleArgument = Annotated[Path, typer.Argument(metavar="M.bmz", help="Bundle.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TargetOption = Annotated[
    str, typer.Option(metavar="T", help="Device, as listed by `blendmask targets`.", show_default=False)
]
PrecisionOption = Annotated[str, typer.Option(help="int8, fp16 or fp32.")]
ThreadsOption = Annotated[
    Optional[int], typer.Option(help="Threads within an operator. Default: the runtime's choice.")
]
SignatureOption = Annotated[
    Optional[List[Path]],
    typer.Option(
        "--require-signature",
        metavar="PUBLIC.pem",
        help="Refuse a bundle that this key did not sign; several are alternatives.",
    ),
]

ReportsOption = Annotated[
    Optional[Path],
    typer.Option(metavar="DIR", help="Folder of reports of `blendmask verify-device`. Default: $BLENDMASK_REPORTS."),
]

__all__ = [
    "Annotated",
    "BundleArgument",
    "JsonOption",
    "PrecisionOption",
    "ReportsOption",
    "SignatureOption",
    "TargetOption",
    "ThreadsOption",
]
