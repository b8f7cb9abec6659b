"""`blendmask verify`."""

from pathlib import Path
from typing import List

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument
from blendmask_edge.cli.output import say


def verify(
    bundle: BundleArgument,
    key: Annotated[
        List[Path],
        typer.Option(metavar="PUBLIC.pem", help="Ed25519 public key in PEM format; several are alternatives."),
    ],
) -> None:
    """Check that a key signed a bundle, and the hash of each graph."""
    from blendmask_edge.bundle.reader import Bundle

    opened = Bundle.open(bundle, public_key=key)
    for variant in sorted(opened.manifest.graphs):
        opened.graph(variant)
    say(f"{bundle} is signed by a given key; its graphs are unchanged: {', '.join(sorted(opened.manifest.graphs))}")
    say(f"Next: blendmask predict {bundle} IMAGE... --require-signature {key[0]}")
