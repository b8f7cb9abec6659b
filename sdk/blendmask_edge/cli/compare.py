"""`blendmask compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, JsonOption, ThreadsOption
from blendmask_edge.cli.output import one_line, print_json, print_lines, say, tracked
from blendmask_edge.cli.shares import parse_share

if TYPE_CHECKING:
    from blendmask_edge.comparison.detections import Detection
    from blendmask_edge.comparison.result import Comparison

_SHOWN_IMAGES = 10
NEXT_SHARE = "1%"


def compare(
    before: Annotated[
        str, typer.Argument(metavar="A", help="Bundle (M.bmz, or M.bmz:GRAPH), or predictions: a folder or JSON file.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="What to compare with A.")],
    images: Annotated[Optional[Path], typer.Option(help="Folder of images. Needed for bundles.")] = None,
    annotations: Annotated[Optional[Path], typer.Option(help="COCO instances JSON; compare its images only.")] = None,
    max_changed: Annotated[
        Optional[str], typer.Option(metavar="SHARE", help="Fail if more instances changed, e.g. 1%.")
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", metavar="F.html", help="Page of all changes with overlays.")
    ] = None,
    score: Annotated[
        Optional[float], typer.Option(help="Instances count from this score. Default: the bundle's, else 0.5.")
    ] = None,
    mask_iou: Annotated[float, typer.Option(help="A mask with less overlap counts as changed.")] = 0.9,
    runtime: Annotated[str, typer.Option(help="Runtime of the bundles; auto takes the fastest.")] = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which instances appeared, vanished or changed their mask between two bundles or two runs.

    Exit code 3: more instances changed than --max-changed allows.
    """
    share = None if max_changed is None else parse_share("--max-changed", max_changed)
    from blendmask_edge.comparison.compare import compare as compare_sources
    from blendmask_edge.report.changes import comparison_page
    from blendmask_edge.report.write import check_output, is_html, write_page

    if output is not None:
        check_output(output)
    result = compare_sources(
        before,
        after,
        images,
        annotations,
        score,
        mask_iou,
        runtime,
        threads,
        lambda names: tracked(names, "Predicting"),
    )
    if as_json:
        print_json(_document(result, share))
    else:
        print_lines(_lines(result))
    if output is not None:
        write_page(comparison_page(result, share, is_html(output)), output)
        if not as_json:
            say(f"Saved the changes to {output}")
    if share is not None:
        result.require_at_most(share)
    if output is None and not as_json and result.changes:
        say(f"Next: add --output changes.html to see them, and --max-changed {NEXT_SHARE} to fail on more")


def _lines(result: "Comparison") -> List[str]:
    from blendmask_edge.comparison.result import MASK

    rows = [
        f"{one_line(image)}: "
        + ", ".join(
            f"{one_line(change.class_name)} {change.kind}"
            + (f" (IoU {change.mask_iou:.2f})" if change.kind == MASK else "")
            for change in changes
        )
        for image, changes in result.by_image().items()
    ]
    more = len(rows) - _SHOWN_IMAGES
    images = "1 image" if result.images == 1 else f"{result.images} images"
    sides = f"{one_line(result.before)} against {one_line(result.after)}"
    return [
        f"{sides}, {images}, score {result.score_threshold:.2g} or more",
        *rows[:_SHOWN_IMAGES],
        *([f"... and {more} more images"] if more > 0 else []),
        result.summary() if result.instances else "Neither run has an instance: try a lower --score.",
    ]


def _document(result: "Comparison", share: Optional[float]) -> Dict[str, Any]:
    """Return the result for a machine; masks are left out."""
    return {
        "before": result.before,
        "after": result.after,
        "images": result.images,
        "instances": result.instances,
        "changed": len(result.changes),
        "changed_share": result.changed_share,
        "passed": share is None or result.changed_share <= share,
        "changes": [
            {
                "image": change.image,
                "kind": change.kind,
                "class": change.class_name,
                "before": _side(change.before),
                "after": _side(change.after),
                "mask_iou": change.mask_iou,
            }
            for change in result.changes
        ],
    }


def _side(detection: "Optional[Detection]") -> Optional[Dict[str, Any]]:
    return None if detection is None else {"score": detection.score, "bbox": list(detection.box)}
