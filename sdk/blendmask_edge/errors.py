"""Every exception a user can meet.

One class per thing a user can do about it. Each message says what was found, what was expected and what to do next;
the command line prints it as it stands and exits with its `exit_code`.
"""

from __future__ import annotations

from typing import Any, Dict, Optional


class BlendMaskError(Exception):
    """Base of all errors raised on purpose; catch it to handle them all."""

    exit_code = 1
    """What the command line exits with."""


class ImageError(BlendMaskError):
    """An image cannot be read, or an array has the wrong type or shape. Give another image."""


class InstancesError(BlendMaskError):
    """Arrays or labels of instances have another type, dtype or shape than they need. Correct them."""


class BundleError(BlendMaskError):
    """A file is not a valid bundle, or lacks what was asked for. Fetch or build it again."""


class CheckpointError(BlendMaskError):
    """A checkpoint cannot be read or belongs to another configuration. Give the one that fits."""


class ConfigError(BlendMaskError):
    """An option, recipe or configuration is unknown or contradicts itself. Correct it."""


class CalibrationError(BlendMaskError):
    """A calibration set does not suit quantization. Give other or more images."""


class AnnotationError(BlendMaskError):
    """Annotations cannot be read or do not match the images. Correct the file."""


class BaselineError(BlendMaskError):
    """A baseline cannot be read, or was made on another machine or other data. Make one for what is measured."""


class RegressionError(BlendMaskError):
    """A measurement is outside the limits of its baseline. Find the cause, or accept it as the new baseline."""

    exit_code = 3


class DisturbedError(BlendMaskError):
    """Other work disturbed a measurement, so its times prove nothing. Measure again on a quiet machine."""

    exit_code = 4


class OutputError(BlendMaskError):
    """A result cannot be written. Choose another place, or make room."""


class DependencyError(BlendMaskError):
    """A package that is needed is not installed. Install the extra that the message names."""


class RuntimeUnavailableError(DependencyError):
    """No installed runtime can run the bundle. Install one, or name another."""


class InferenceError(BlendMaskError):
    """A runtime refused or failed to run a graph. Try another runtime or variant, and report it."""


class ClosedError(BlendMaskError):
    """A predictor or session was used after it was closed. Open a new one."""


def install_command(extra: str) -> str:
    """Return the pip command that adds an extra to this package, from where the package was installed.

    Args:
        extra: an extra of `blendmask-edge`, e.g. "cpu".
    """
    name = f"blendmask-edge[{extra}]"
    origin = _origin()
    if origin is None:
        return f'pip install "{name}"'
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f'pip install {editable}"{_local_path(url)}[{extra}]"'
    vcs = origin.get("vcs_info")
    source = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    return f'pip install "{name} @ {source}"'


def _origin() -> Optional[Dict[str, Any]]:
    """Return what pip recorded of a folder, archive or repository (PEP 610), None for a package from an index."""
    import importlib.metadata
    import json
    from pathlib import Path

    try:
        recorded = importlib.metadata.distribution("blendmask-edge").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {"url": Path(__file__).resolve().parents[2].as_uri(), "dir_info": {"editable": True}}
    return json.loads(recorded) if recorded else None


def _local_path(url: str) -> str:
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    return url2pathname(urlparse(url).path)
