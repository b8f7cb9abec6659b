"""Each version of TensorRT is told what it understands, and what keeps the float remainder fast."""

from __future__ import annotations

from typing import Any, Tuple

import pytest

from blendmask_edge import ConfigError
from blendmask_edge.compilation.options import CompileOptions
from blendmask_edge.hardware.architectures import load_architectures
from blendmask_edge.runtimes.tensorrt.arguments import BuildArguments, build_arguments
from blendmask_edge.runtimes.tensorrt.versions import Version


def arguments(version: str, precision: Any, sm: str = "8.7", half: bool = False, **options: Any) -> BuildArguments:
    """Return the arguments for a GPU of `sm`."""
    architecture = next(row for row in load_architectures() if row.sm == sm)
    return build_arguments(Version.parse(version), CompileOptions(precision, **options).engine, architecture, half)


@pytest.mark.parametrize(
    "version, precision, network, builder",
    [
        ("8.5.2", "int8", ("EXPLICIT_BATCH",), ("INT8", "FP16", "SPARSE_WEIGHTS")),
        ("8.6.1", "fp16", ("EXPLICIT_BATCH",), ("FP16",)),
        ("8.6.1", "fp32", ("EXPLICIT_BATCH",), ()),
        ("10.3.0", "int8", (), ("INT8", "FP16", "SPARSE_WEIGHTS")),
        ("10.3.0", "fp16", (), ("FP16",)),
        ("10.3.0", "fp32", ("STRONGLY_TYPED",), ()),
        ("10.16.1", "int8", (), ("INT8", "FP16", "SPARSE_WEIGHTS")),
        ("11.0", "int8", (), ("SPARSE_WEIGHTS",)),
        ("11.4.1", "fp16", (), ()),
    ],
)
def test_a_float32_graph_gets_flags_where_there_are_some(
    version: str, precision: str, network: Tuple[str, ...], builder: Tuple[str, ...]
) -> None:
    found = arguments(version, precision)
    assert (found.network_flags, found.builder_flags, found.workspace_bytes) == (network, builder, None)


@pytest.mark.parametrize(
    "version, precision, sm, half, expected",
    [
        ("10.16.1", "int8", "8.7", False, False),
        ("11.0", "int8", "8.7", False, True),
        ("11.4.1", "fp16", "8.7", False, True),
        ("11.4.1", "fp32", "8.7", False, False),
        ("11.4.1", "int8", "6.1", False, False),
        ("11.4.1", "int8", "8.7", True, False),
    ],
)
def test_the_remainder_is_made_half_where_no_flag_can(
    version: str, precision: str, sm: str, half: bool, expected: bool
) -> None:
    found = arguments(version, precision, sm=sm, half=half)
    assert found.half_remainder is expected
    assert ("half_remainder" in found.as_dict()) is expected


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_half_graph_is_strongly_typed_where_the_version_can(precision: str) -> None:
    sparse = ("SPARSE_WEIGHTS",) if precision == "int8" else ()
    assert arguments("10.3", precision, half=True) == BuildArguments(("STRONGLY_TYPED",), sparse, None)
    assert arguments("11.1", precision, half=True) == BuildArguments((), sparse, None)
    assert "FP16" in arguments("8.6.1", precision, half=True).builder_flags


def test_int8_on_pascal_goes_without_fp16() -> None:
    assert arguments("8.6.1", "int8", sm="6.1").builder_flags == ("INT8",)
    assert arguments("8.6.1", "int8", sm="7.5").builder_flags == ("INT8", "FP16")


def test_only_gpus_that_skip_zeros_look_for_sparse_weights() -> None:
    found = {
        row.sm: "SPARSE_WEIGHTS" in arguments("8.6.1", "int8", sm=row.sm).builder_flags for row in load_architectures()
    }
    assert {sm for sm, sparse in found.items() if sparse} == {sm for sm in found if float(sm) >= 8}


def test_workspace_is_given_in_bytes() -> None:
    assert arguments("10.3", "int8", workspace_mib=512).workspace_bytes == 512 * 1024 * 1024


@pytest.mark.parametrize("size", [0, -1, 2**40, "512", 1.5, True])
def test_a_workspace_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="workspace_mib is "):
        CompileOptions(workspace_mib=size)
