"""Each release of Torch-TensorRT is told what it knows, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blendmask_edge.devices import load_table
from blendmask_edge.errors import InferenceError
from blendmask_quantize.export.torch_tensorrt.api_family import family_of, require_known

ALWAYS = {"require_full_compilation": True, "min_block_size": 1}
INT8 = {torch.float32, torch.float16, torch.int8}


@pytest.mark.parametrize(
    "version, precision, expected",
    [
        ("2.5.0", "int8", {"enabled_precisions": INT8}),
        ("2.8.0", "int8", {"enabled_precisions": INT8}),
        ("2.9.0+cu128", "fp32", {"enabled_precisions": {torch.float32}}),
        ("2.10.0", "int8", {"use_explicit_typing": True}),
        ("2.12.1", "fp32", {"use_explicit_typing": True}),
        ("2.13.0", "int8", {}),
        ("2.14.0", "fp32", {}),
    ],
)
def test_precisions_are_asked_for_only_where_that_is_heard(version: str, precision: str, expected: Any) -> None:
    assert family_of(version).arguments(precision) == {**ALWAYS, **expected}
    assert family_of(version).arguments(precision, 2**20) == {**ALWAYS, **expected, "workspace_size": 2**20}


def test_release_without_explicit_quantization_is_refused_as_the_table_says() -> None:
    for row in load_table().torch_tensorrt:
        if row.quantizes:
            family_of(row.version)
        else:
            with pytest.raises(InferenceError, match=rf"{row.version} converts no explicit quantization"):
                family_of(row.version)


def test_argument_that_would_be_swallowed_is_named() -> None:
    def compile(program: Any, *, min_block_size: int = 5, **kwargs: Any) -> None: ...

    require_known(compile, {"min_block_size": 1}, "2.14.0")
    with pytest.raises(InferenceError, match=r"2\.14\.0 does not know the argument enabled_precisions"):
        require_known(compile, {"min_block_size": 1, "enabled_precisions": set()}, "2.14.0")
