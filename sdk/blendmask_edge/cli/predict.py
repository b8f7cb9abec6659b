"""`blendmask predict`."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.output import print_json, tracked


def predict(
    bundle: BundleArgument,
    images: Annotated[List[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("out"),
    score: Annotated[Optional[float], typer.Option(help="Least score, 0 to 1; the bundle's if left out.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime; auto takes the quickest, measured once.")] = "auto",
    threads: ThreadsOption = None,
    variant: Annotated[Optional[str], typer.Option(help="Graph of the bundle: cpu, float.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find instances in images; write overlays and COCO JSON."""
    from blendmask_edge.cli.predict_files import INSTANCES_NAME, find_images, predict_files
    from blendmask_edge.predictor import MaskPredictor

    files = find_images(images)
    with MaskPredictor(bundle, runtime, threads, score, variant) as predictor:
        document = predict_files(predictor, tracked(files, "Predicting"), output)
    if as_json:
        print_json({"output": str(output), **document})
        return
    typer.echo(f"{len(document['annotations'])} instances in {len(files)} images{_counts(document)}")
    typer.echo(f"Overlays and {INSTANCES_NAME} lie in {output}")
    typer.echo(f"Next: blendmask info {bundle}")


def _counts(document: Dict[str, Any]) -> str:
    from blendmask_edge.bundle.summary import plain

    names = {category["id"]: plain(category["name"]) for category in document["categories"]}
    counts: Dict[str, int] = {}
    for annotation in document["annotations"]:
        name = names[annotation["category_id"]]
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ": " + ", ".join(f"{count} {name}" for name, count in ordered) if ordered else ""
