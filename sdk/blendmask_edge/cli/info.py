"""`blendmask info`."""

import typer

from blendmask_edge.cli.arguments import BundleArgument, JsonOption


def info(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle holds, how it was made and how good it is."""
    from blendmask_edge.bundle.manifest import encode_manifest
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.bundle.summary import summarize

    opened = Bundle.open(bundle)
    if as_json:
        typer.echo(encode_manifest(opened.manifest).decode())
        return
    for label, text in summarize(opened):
        typer.echo(f"{label:<19}{text}")
    typer.echo(f"Next: blendmask predict {bundle} IMAGE...")
