"""`blendmask info`."""

from blendmask_edge.cli.arguments import BundleArgument, JsonOption
from blendmask_edge.cli.output import say


def info(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show the graphs of a bundle, how it was made, and its accuracy."""
    from blendmask_edge.bundle.manifest import encode_manifest
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.cli.bundle_summary import summarize

    opened = Bundle.open(bundle)
    if as_json:
        say(encode_manifest(opened.manifest).decode())
        return
    for label, text in summarize(opened):
        say(f"{label:<19}{text}")
    say(f"Next: blendmask predict {bundle} IMAGE...")
