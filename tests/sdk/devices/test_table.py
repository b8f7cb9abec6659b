"""The table is whole: every fact says where it comes from, and what its rows name exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blendmask_edge.devices.table as table_module
import blendmask_edge.hardware.architectures as architectures
from blendmask_edge import ConfigError
from blendmask_edge.devices import load_table
from blendmask_edge.runtimes.tensorrt.versions import Version

TABLE = load_table()
RAW = [
    json.loads(Path(module.__file__).with_name(name).read_text("utf-8"))
    for module, name in ((table_module, "devices.json"), (architectures, "architectures.json"))
]
MARKS = {"verified", "documented", "unverified"}
WANTED = [
    *("gtx-1080-ti", "jetson-nano", "jetson-tx2", "jetson-xavier", "jetson-agx-orin", "jetson-orin-nx"),
    *("jetson-orin-nano", "jetson-thor", "turing", "a100", "rtx-30", "ada", "hopper", "rtx-50", "x86-vnni", "x86"),
]


def sourced(node: Any) -> Iterator[Any]:
    """Yield every object of the file that states a fact by itself, or a row with one source for all its columns."""
    if isinstance(node, dict):
        if "value" in node or "source" in node or "mark" in node:
            yield node
        for child in node.values():
            yield from sourced(child)
    elif isinstance(node, list):
        for child in node:
            yield from sourced(child)


def test_every_fact_has_a_source_and_a_mark() -> None:
    facts = list(sourced(RAW))
    assert len(facts) > 200
    for fact in facts:
        assert fact.get("source", "").strip(), fact
        assert fact.get("mark") in MARKS, fact
        assert fact.get("value", "row") not in ("", None), fact


def test_general_knowledge_is_never_called_more_than_unverified() -> None:
    for fact in sourced(RAW):
        if "general knowledge" in fact["source"] or "no source" in fact["source"]:
            assert fact["mark"] == "unverified", fact


def test_the_devices_that_users_have_are_there() -> None:
    assert {target.name for target in TABLE.targets} >= set(WANTED)


@pytest.mark.parametrize("target", TABLE.targets, ids=lambda target: target.name)
def test_what_a_target_names_exists(target: Any) -> None:
    if target.kind == "cpu":
        assert target.int8 is not None
        assert TABLE.architecture_of(target) is None
        return
    assert TABLE.architecture_of(target) is not None
    Version.parse_exact(target.tensorrt.value)
    if target.torch_tensorrt is not None:
        assert target.torch_tensorrt.value in {row.version for row in TABLE.torch_tensorrt}
    assert bool(TABLE.jetpacks_of(target)) == (target.kind == "jetson")


def test_jetpacks_name_known_jetsons() -> None:
    jetsons = {target.name for target in TABLE.targets if target.kind == "jetson"}
    assert {name for row in TABLE.jetpacks for name in row.targets} == jetsons


def test_names_and_aliases_lead_to_one_target_each() -> None:
    names: List[str] = [name for target in TABLE.targets for name in [target.name, *target.aliases]]
    assert len(names) == len(set(names))
    for target in TABLE.targets:
        for name in [target.name, target.title, *target.aliases]:
            assert TABLE.find(name) is target
            assert TABLE.find(name.upper().replace("-", " ")) is target


def test_facts_that_decide_are_those_of_the_sources() -> None:
    pascal, nano, orin = TABLE.find("gtx-1080-ti"), TABLE.find("jetson-nano"), TABLE.find("jetson-orin-nano")
    architecture = TABLE.architecture_of(pascal)
    assert architecture is not None
    assert architecture.fp16_rate is not None
    assert (architecture.fp16.value, architecture.fp16.mark) == ("slow", "documented")
    assert (architecture.fp16_rate.value, architecture.fp16_rate.mark) == ("1/64 of FP32", "unverified")
    assert pascal.tensorrt_last is not None
    assert pascal.tensorrt_last.value == "8.6.1"
    assert [row.tensorrt.value for row in TABLE.jetpacks_of(nano)] == ["8.0.1", "8.2.1"]
    assert orin.dla is not None
    assert orin.dla.value is False
    assert TABLE.limits.top_k.value == 3840
    assert [row.opset for row in TABLE.parsers] == [13, 17, 19, 20, 25]


@pytest.mark.parametrize(
    "wrong, nearest",
    [("gtx1080ti", "gtx-1080-ti"), ("jetson-orin-nanoo", "jetson-orin-nano"), ("xavir", "jetson-xavier")],
)
def test_unknown_target_names_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"Unknown target '{wrong}'.*{nearest}.*blendmask targets"):
        TABLE.find(wrong)


@pytest.mark.parametrize("wrong", ["", "???", "toaster", "x" * 10_000])
def test_target_unlike_any_lists_them_all(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"Known: gtx-1080-ti, .*x86"):
        TABLE.find(wrong)


@pytest.mark.parametrize(
    "text, parts", [("8.6.1", (8, 6, 1)), ("10.3.0.26", (10, 3, 0, 26)), (" 11.4.1+cu13", (11, 4, 1))]
)
def test_versions_are_read(text: str, parts: Any) -> None:
    assert Version.parse(text).parts == parts


@pytest.mark.parametrize("text", ["", "x", "v8", "-1", ".5", "9" * 40])
def test_text_that_is_not_a_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a version"):
        Version.parse(text)


def test_a_major_number_alone_is_too_vague() -> None:
    with pytest.raises(ConfigError, match=r"TensorRT 11 is too vague.*10\.3"):
        Version.parse_exact("11")


PARTS = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple)


@given(PARTS, PARTS)
def test_versions_are_ordered_with_missing_numbers_as_zero(one: Any, other: Any) -> None:
    padded = [parts + (0,) * (4 - len(parts)) for parts in (one, other)]
    assert Version(one).at_least(Version(other)) == (padded[0] >= padded[1])
    assert Version(one).at_least(Version(other)) or Version(other).at_least(Version(one))


@given(PARTS, PARTS)
def test_an_upper_bound_covers_all_that_begin_with_it(bound: Any, rest: Any) -> None:
    assert Version((bound + rest)[:4]).up_to(Version(bound))
    assert not Version((bound[0] + 1, *bound[1:])).up_to(Version(bound))
