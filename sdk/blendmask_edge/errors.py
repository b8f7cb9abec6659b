"""Every exception a user can meet.

One class per thing a user can do about it. Each message says what was found, what was expected and what to do next;
the command line prints it as it stands and exits with 1.
"""

from __future__ import annotations


class BlendMaskError(Exception):
    """Base of all errors raised on purpose; catch it to handle them all."""


class ImageError(BlendMaskError):
    """A image cannot be read, or an array is no image. Give another image."""


class BundleError(BlendMaskError):
    """A file is no sound bundle, or lacks what was asked of it. Fetch or build it again."""


class CheckpointError(BlendMaskError):
    """A checkpoint cannot be read or belongs to another configuration. Give the one that fits."""


class ConfigError(BlendMaskError):
    """An option, recipe or configuration is unknown or contradicts itself. Correct it."""


class CalibrationError(BlendMaskError):
    """A calibration set is unfit. Give other or more images."""


class AnnotationError(BlendMaskError):
    """Annotations cannot be read or do not match the images. Correct the file."""


class BaselineError(BlendMaskError):
    """A baseline cannot be read, or was made on another machine or other data. Make one for what is measured."""


class RegressionError(BlendMaskError):
    """A measurement left the limits of its baseline. Find the cause, or accept it as the new baseline."""


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
