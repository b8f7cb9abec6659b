"""`blendmask verify-device`."""

from pathlib import Path
from typing import List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.output import print_json, say
from blendmask_edge.errors import InferenceError, RegressionError


def verify_device(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images.", show_default=False)],
    annotations: Annotated[
        Optional[Path], typer.Option(metavar="F.json", help="COCO instances JSON of the images. Default: no accuracy.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the report; a later call continues in it.")
    ] = Path("verify-device"),
    target: Annotated[
        Optional[str], typer.Option(metavar="T", help="This device, as listed by `blendmask targets`.")
    ] = None,
    route: Annotated[
        Optional[List[str]], typer.Option(help="Route to measure; can be repeated. Default: all.", show_default=False)
    ] = None,
    key: Annotated[
        Optional[Path], typer.Option(metavar="PRIVATE.pem", help="Ed25519 private key in PEM format; signs the report.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Least number of timed frames per route.", min=1)] = 200,
    soak: Annotated[float, typer.Option(metavar="SECONDS", help="Steady work on each route.", min=0)] = 60.0,
    limit: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit of each part.", min=1)] = 1800.0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile, check and time a bundle on this device by every route, and write a report.

    Parts that are done are kept, so that the same command continues after a failure. Exit code 0: all that could be
    tried passed. Exit code 3: a limit was left. Exit code 1: a part failed.
    """
    from blendmask_edge.verification import page
    from blendmask_edge.verification.report import FAILED, LEFT, Row
    from blendmask_edge.verification.run import Request, verify_device

    request = Request(bundle, images, annotations, output, target, route or (), key, frames, threads, soak, limit)

    def show(row: Row, kept: bool) -> None:
        if not as_json:
            say(f"{page.describe_row(row)}{' (kept)' if kept else ''}")

    outcome = verify_device(request, on_row=show)
    if as_json:
        print_json(outcome.report)
    else:
        signed = f", signed by {outcome.signed_by}" if outcome.signed_by else ""
        say(f"{outcome.report.title}: {page.summary_line(outcome.report)}")
        say(f"Saved the report to {outcome.path}{signed}, and the page to {outcome.page}")
        say(f"Next: blendmask targets {outcome.report.target} --reports {outcome.path.parent}")
    if outcome.report.of(FAILED):
        raise InferenceError(f"{len(outcome.report.of(FAILED))} parts failed; {outcome.page} has the reasons.")
    if outcome.report.of(LEFT):
        raise RegressionError(f"{len(outcome.report.of(LEFT))} parts left a limit; {outcome.page} has the reasons.")
