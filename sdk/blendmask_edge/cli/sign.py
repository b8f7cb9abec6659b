"""`blendmask sign`."""

from pathlib import Path
from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument
from blendmask_edge.cli.output import say


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(metavar="PRIVATE.pem", help="Ed25519 private key in PEM format.")],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Signed bundle. Default: replace the file.")
    ] = None,
) -> None:
    """Sign a bundle, so that robots can refuse others. $BLENDMASK_KEY_PASSWORD decrypts the key."""
    from blendmask_edge.bundle.signing import sign_bundle

    fingerprint = sign_bundle(bundle, key, output)
    say(f"Signed {output or bundle} with the key {fingerprint}")
    say(f"Next: blendmask verify {output or bundle} --key PUBLIC.pem")
