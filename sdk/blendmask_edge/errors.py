"""The exceptions of this package, one class per remedy.

Each message states the actual and the expected input and the next step. The command line prints it and exits with
`exit_code`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

_LONGEST_MESSAGE, _END = 4000, 1000
"""Characters of a message, and of its end, where the next step stands."""


class BlendMaskError(Exception):
    """Base class of all errors of this package."""

    exit_code = 1
    """Exit code of the command line."""

    def __str__(self) -> str:
        """Return the message; of one that quotes a long value, the beginning and the end."""
        text = super().__str__()
        left_out = len(text) - _LONGEST_MESSAGE
        if left_out <= 0:
            return text
        return f"{text[: _LONGEST_MESSAGE - _END]} [{left_out} characters left out] {text[-_END:]}"


class ImageError(BlendMaskError):
    """An image cannot be read, or an array has the wrong dtype or shape. Give another image."""


class SourceError(ImageError):
    """A camera, video, folder or URL cannot be opened, or gives no more frames. Check it, or give another source."""


class InstancesError(BlendMaskError):
    """Arrays or labels of instances have the wrong type, dtype or shape. Correct them."""


class BundleError(BlendMaskError):
    """A file is not a valid bundle, or lacks the requested graph. Fetch or build it again."""


class SignatureError(BundleError):
    """A bundle lacks a required signature, or has that of another key. Do not use it; get it from its author."""


class CheckpointError(BlendMaskError):
    """A checkpoint cannot be read or belongs to another configuration. Give the matching one."""


class ConfigError(BlendMaskError):
    """An option, recipe or configuration is unknown or contradictory. Correct it."""


class CalibrationError(BlendMaskError):
    """Calibration images are unsuitable. Give other or more images."""


class AnnotationError(BlendMaskError):
    """Annotations cannot be read or do not match the images. Correct the file."""


class BaselineError(BlendMaskError):
    """A baseline or record cannot be read, or belongs to another machine or other data. Record a matching one."""


class RegressionError(BlendMaskError):
    """A metric is outside the limits of its baseline. Find the cause, or accept it as the new baseline."""

    exit_code = 3


class DisturbedError(BlendMaskError):
    """Other processes disturbed a measurement, so that its times are inconclusive. Measure again on an idle machine."""

    exit_code = 4


class OutputError(BlendMaskError):
    """A result cannot be written. Choose another location, or free disk space."""


class DependencyError(BlendMaskError):
    """A required package is not installed. Install the extra that the message names."""


class RuntimeUnavailableError(DependencyError):
    """No installed runtime can run the bundle. Install one, or name another."""


class InferenceError(BlendMaskError):
    """A runtime refused a graph or failed to run it. Try another runtime or variant, and report it."""


class WorkerError(BlendMaskError):
    """Processes or a cluster cannot be used for the work, or die at it. Check them, or use fewer."""


class ClosedError(BlendMaskError):
    """A predictor or session was used after it was closed. Open a new one."""


def install_command(extra: str) -> str:
    """Return a pip command that installs an extra of this package and works for how the package was installed.

    The package is not on an index. If its source folder, wheel or repository is known and still exists, the command
    installs from there; else it installs the packages of the extra.

    Args:
        extra: an extra of `blendmask-edge`, e.g. "cpu".
    """
    origin = _origin()
    url = str(origin.get("url", "")) if origin is not None else ""
    if origin is None or (url.startswith("file:") and not _local_path(url).exists()):
        return "pip install " + " ".join(f'"{requirement}"' for requirement in _requirements(extra))
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f'pip install {editable}"{_local_path(url)}[{extra}]"'
    vcs = origin.get("vcs_info")
    source = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    return f'pip install "blendmask-edge[{extra}] @ {source}"'


def _origin() -> Optional[Dict[str, Any]]:
    """Return what pip recorded about a source folder, archive or repository (PEP 610), or None."""
    import importlib.metadata
    import json

    try:
        recorded = importlib.metadata.distribution("blendmask-edge").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {"url": Path(__file__).resolve().parents[2].as_uri(), "dir_info": {"editable": True}}
    return json.loads(recorded) if recorded else None


def _requirements(extra: str) -> List[str]:
    """Return the packages of an extra, those of the extras that it includes among them."""
    import importlib.metadata
    import re

    requirements: List[str] = []
    for line in importlib.metadata.requires("blendmask-edge") or ():
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", marker):
            included = re.match(r"blendmask[-_]edge\[([\w-]+)\]", requirement)
            requirements += _requirements(included[1]) if included else [requirement.strip().replace(" ", "")]
    return requirements


def _local_path(url: str) -> Path:
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    return Path(url2pathname(urlparse(url).path))
