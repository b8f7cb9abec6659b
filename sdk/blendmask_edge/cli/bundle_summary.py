"""A bundle in a few lines that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Tuple

from blendmask_edge.cli.output import one_line

if TYPE_CHECKING:
    from blendmask_edge.bundle.manifest import Fidelity, Manifest, Measurement
    from blendmask_edge.bundle.reader import Bundle

_SHOWN_CLASSES = 12
_SHOWN_METRICS = ("mask_ap", "box_ap", "mask_ap50")


def summarize(bundle: Bundle) -> List[Tuple[str, str]]:
    """Return (label, text) rows, from the model and its input to what was measured, license and origin."""
    manifest = bundle.manifest
    rows = [
        ("bundle", f"{bundle.path} ({bundle.path.stat().st_size / 1e6:.2f} MB)"),
        ("model", manifest.model),
        ("input", f"{manifest.input.height} x {manifest.input.width} (height x width), RGB"),
        ("classes", _classes(manifest)),
        ("display threshold", _display_threshold(manifest)),
        ("recipe", f"{manifest.recipe.name} {manifest.recipe.version}"),
        ("calibration", manifest.calibration.summary() if manifest.calibration else "none"),
    ]
    for variant, graph in manifest.graphs.items():
        rows.append((f"graph {variant}", f"{graph.precision}, opset {graph.opset}, {graph.size / 1e6:.2f} MB"))
    for variant, measurements in manifest.metrics.items():
        rows.extend((f"measured {variant}", _measurement(measurement)) for measurement in measurements)
    rows.extend((f"fidelity {variant}", _fidelity(fidelity)) for variant, fidelity in manifest.fidelity.items())
    if manifest.arithmetic:
        rows.append(("arithmetic", describe_arithmetic(manifest.arithmetic)))
    rows.append(("license", manifest.license))
    rows.append(("made", f"{manifest.created} by {manifest.generator}"))
    return [(one_line(label), one_line(text)) for label, text in rows]


def describe_arithmetic(measured: Mapping[str, Measurement]) -> str:
    """Return how far the accuracy of a graph depends on the arithmetic that computes it.

    Args:
        measured: by name of the arithmetic, all on the same data; at least one.
    """
    first = next(iter(measured.values()))
    accuracies = [100 * one.metrics["mask_ap"] for one in measured.values() if "mask_ap" in one.metrics]
    lowest, highest = min(accuracies, default=0.0), max(accuracies, default=0.0)
    spread = f"mask AP {lowest:.2f} to {highest:.2f}, within {highest - lowest:.2f}," if accuracies else "no AP"
    where = f"on {first.images} images of {first.data}"
    return f"{spread} in {len(measured)} arithmetics that GPUs may use ({', '.join(measured)}), {where}"


def _classes(manifest: Manifest) -> str:
    shown = ", ".join(manifest.classes[:_SHOWN_CLASSES])
    more = len(manifest.classes) - _SHOWN_CLASSES
    return f"{len(manifest.classes)}: {shown}" + (f" and {more} more" if more > 0 else "")


def _display_threshold(manifest: Manifest) -> str:
    measured = manifest.display_measurement
    if measured is None:
        return f"score {manifest.display_threshold:g}, not measured"
    values = ", ".join(f"{name} {value:.3f}" for name, value in measured.metrics.items())
    return f"score {manifest.display_threshold:g}: {values} on {measured.images} images of {measured.data}"


def _measurement(measurement: Measurement) -> str:
    metrics = measurement.metrics
    shown = [name for name in _SHOWN_METRICS if name in metrics] or list(metrics)
    values = ", ".join(f"{name} {metrics[name]:.4g}" for name in shown)
    return f"{values} on {measurement.images} images of {measurement.data}"


def _fidelity(fidelity: Fidelity) -> str:
    known = {"mask IoU": fidelity.mask_iou, "box IoU": fidelity.box_iou, "score drift": fidelity.score_drift}
    values = "".join(f", {name} {value:.3f}" for name, value in known.items() if value is not None)
    instances = f"{fidelity.matched} of {fidelity.matched + fidelity.missed} instances of the float graph found"
    return f"{instances}, {fidelity.spurious} spurious{values} on {fidelity.images} images"
