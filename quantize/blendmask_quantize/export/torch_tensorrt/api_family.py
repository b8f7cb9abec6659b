"""Arguments for each release of Torch-TensorRT, by families of releases with the same arguments.

`torch_tensorrt.dynamo.compile` ends in `**kwargs` and swallows what it does not know, so that an argument of another
release is lost without a word. Each family therefore lists its own, and each is looked for in the signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from blendmask_edge.errors import InferenceError

_FLAGS = {"int8": {torch.float32, torch.float16, torch.int8}, "fp32": {torch.float32}}


@dataclass(frozen=True)
class ApiFamily:
    """Releases that take the same arguments.

    Attributes:
        first, before: the first release, and the first that no longer belongs to it; None leaves that end open.
        takes_flags: whether precisions are asked for by a flag; later releases take them from the program alone.
        explicit_typing: value of `use_explicit_typing`; None in releases without it.
    """

    first: tuple[int, int]
    before: tuple[int, int] | None
    takes_flags: bool = False
    explicit_typing: bool | None = None

    def arguments(self, precision: str, workspace_bytes: int | None = None) -> dict[str, Any]:
        """Arguments of a compilation as one engine, without a fallback to torch.

        Args:
            precision: "int8" or "fp32", which is what the program is.
            workspace_bytes: memory that the builder may give to one layer; None leaves it to TensorRT.
        """
        arguments: dict[str, Any] = {"require_full_compilation": True, "min_block_size": 1}
        if workspace_bytes is not None:
            arguments["workspace_size"] = workspace_bytes
        if self.takes_flags:
            arguments["enabled_precisions"] = set(_FLAGS[precision])
        if self.explicit_typing is not None:
            arguments["use_explicit_typing"] = self.explicit_typing
        return arguments


FAMILIES = (
    ApiFamily((2, 5), (2, 10), takes_flags=True),
    ApiFamily((2, 10), (2, 13), explicit_typing=True),
    ApiFamily((2, 13), None),
)
"""From 2.5 on `tensorrt::quantize_op` is converted; 2.10 types programs by themselves, 2.13 removed the flags."""


def family_of(version: str) -> ApiFamily:
    """The family of a release.

    Args:
        version: of Torch-TensorRT, such as "2.8.0+cu128".

    Raises:
        InferenceError: the release is too old to convert explicit quantization.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    for family in FAMILIES:
        if family.first <= numbers and (family.before is None or numbers < family.before):
            return family
    raise InferenceError(
        f"Torch-TensorRT {version} converts no explicit quantization; 2.5 is the first that does. Update it, or take "
        "--runtime tensorrt."
    )


def require_known(compile_function: Callable[..., Any], arguments: Mapping[str, Any], version: str) -> None:
    """See that a release has each argument by name.

    Raises:
        InferenceError: it would swallow one without a word.
    """
    parameters = inspect.signature(compile_function).parameters
    unknown = [name for name in arguments if name not in parameters]
    if unknown:
        raise InferenceError(
            f"Torch-TensorRT {version} does not know the argument {', '.join(unknown)}, and would ignore it. Take "
            "--runtime tensorrt, and report it."
        )
