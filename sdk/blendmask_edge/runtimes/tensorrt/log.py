"""The one logger of this process for TensorRT, which takes the first logger that it is given and ignores the others."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, List

from blendmask_edge.errors import RuntimeUnavailableError

_KEPT_MESSAGES = 3


@lru_cache(maxsize=None)
def tensorrt_log(trt: Any) -> Any:
    """Return the logger for a module `tensorrt`; it keeps errors and warnings for a message of ours and prints nothing.

    `take()` returns the first errors as one line and forgets all; where there is no error, the warnings: TensorRT 8.5
    tells as a warning that CUDA does not start.
    """
    severity = trt.ILogger.Severity

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []
            self.warnings: List[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.errors.append(message)
            elif level == severity.WARNING:
                self.warnings.append(message)
            del self.errors[_KEPT_MESSAGES:], self.warnings[_KEPT_MESSAGES:]

        def take(self) -> str:
            text = " ".join("; ".join(self.errors or self.warnings).split())
            self.errors, self.warnings = [], []
            return text or "it gives no reason"

    return Log()


def start(trt: Any, kind: str) -> Any:
    """Return a new `Builder` or `Runtime` of a module `tensorrt`.

    Where CUDA does not start (no GPU, one that is busy, or a driver too old), 8.5 raises a bare TypeError, 11.4 returns
    an object that does nothing; the reason is in the log alone.

    Raises:
        RuntimeUnavailableError: it does not start; the message has the reason that was logged.
    """
    log = tensorrt_log(trt)
    log.take()
    try:
        started = getattr(trt, kind)(log)
    except (TypeError, RuntimeError) as error:
        raise _cannot_start(trt, kind, log) from error
    if started is None or log.errors:
        # Seen with 11.4: releasing an object that did not start kills the process, so it is kept for good.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(started))
        raise _cannot_start(trt, kind, log)
    return started


def _cannot_start(trt: Any, kind: str, log: Any) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"TensorRT {trt.__version__} cannot start its {kind}: {log.take()}. Run `nvidia-smi` (on a Jetson "
        "`tegrastats`) to see whether the GPU is there, free, and its driver new enough for this TensorRT, or predict "
        "with "
        'runtime="onnxruntime" or "openvino".'
    )
