"""The page on bundles and the code say the same: fields, types, defaults, names and limits."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import msgspec
import pytest
import typer

from blendmask_edge.bundle import graph_check, limits, manifest
from blendmask_edge.bundle.manifest import MAX_SIDE, SCHEMA_VERSION, Manifest
from blendmask_edge.bundle.onnx_file import MAX_ENTRIES, MAX_FIELDS, MAX_NAME_BYTES
from blendmask_edge.bundle.operators.rules import RULES
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME
from blendmask_edge.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs/bundle.md").read_text(encoding="utf-8")
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def structs_of(struct: Any, collected: Dict[str, Any]) -> Dict[str, Any]:
    """Return a struct and all that its fields hold, by name."""
    collected[struct.__name__] = struct
    for hint in typing.get_type_hints(struct).values():
        for part in (hint, *nested(hint)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct) and part.__name__ not in collected:
                structs_of(part, collected)
    return collected


def nested(hint: Any) -> List[Any]:
    """Return what stands in the brackets of a type, at any depth."""
    parts = getattr(hint, "__args__", None) or ()
    return [inner for part in parts for inner in (part, *nested(part))]


def shown_type(hint: Any) -> str:
    """Return a type in the words of the page."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, parts = getattr(hint, "__origin__", None), getattr(hint, "__args__", ())
    if origin is Union:
        return f"{shown_type(parts[0])} or null"
    if origin is dict:
        return "object" if parts[1] is Any else f"object of {shown_type(parts[1])}"
    if origin is list:
        return f"array of {shown_type(parts[0])}"
    if origin is tuple:
        return f"array of {len(parts)} {shown_type(parts[0])}"
    return str(hint.__name__)


def shown_default(field: Any) -> str:
    """Return a default as the page has it; the reader wants the schema version whatever the struct says."""
    if field.required or field.name == "schema_version":
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{json.dumps(default)}`"


STRUCTS = structs_of(Manifest, {})


def rows_of(title: str) -> List[Tuple[str, str, str, str]]:
    """Return field, type, default and meaning of the table under a heading."""
    section = re.split(r"^##+ ", PAGE.partition(f"\n### {title}\n")[2], flags=re.MULTILINE)[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in section.splitlines() if "|" in line
    ]
    return rows[2:]  # type: ignore[return-value]


def test_the_page_describes_every_struct_and_no_other() -> None:
    section = PAGE.partition("\n## The manifest\n")[2]
    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == set(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_stands_on_the_page_with_its_type_and_default(name: str) -> None:
    hints = typing.get_type_hints(STRUCTS[name])
    expected = [
        (f"`{field.name}`", shown_type(hints[field.name]), shown_default(field))
        for field in msgspec.structs.fields(STRUCTS[name])
    ]
    assert [row[:3] for row in rows_of(name)] == expected
    assert all(row[3] for row in rows_of(name))


def test_limits_of_the_page_are_those_of_the_reader() -> None:
    table = PAGE.partition("| limit | at most |")[2].partition("\n\n")[0]
    assert [int(number) for number in re.findall(r"\d+", table)] == [
        limits.MAX_FILE_BYTES,
        limits.MAX_MEMBERS,
        limits.MAX_DIRECTORY_BYTES,
        limits.MAX_MANIFEST_BYTES,
        manifest.MAX_VALUES,
        manifest.MAX_DEPTH,
        manifest.MAX_TEXT,
        limits.MAX_UNPACKED_BYTES,
        limits.RATIO_APPLIES_FROM,
        limits.MAX_RATIO,
        MAX_FIELDS,
        MAX_ENTRIES,
        graph_check.MAX_DEPTH,
        MAX_NAME_BYTES,
        graph_check.MAX_RANK,
        *graph_check.MAX_ELEMENTS,
        *graph_check.MAX_SCRATCH,
        *graph_check.MAX_WORK,
    ]
    assert f"1 to {MAX_SIDE}" in PAGE


def test_operators_and_versions_of_the_page_are_those_of_the_check() -> None:
    section = PAGE.partition("\n### Operators\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`([A-Z]\w+)`", section)) == sorted(RULES)
    (oldest, newest), (first, last) = graph_check.OPSETS, graph_check.IR_VERSIONS
    assert f"opset is {oldest} to {newest}, its IR version {first} or {last}" in section


def test_inputs_outputs_and_version_of_the_page_are_those_of_the_code() -> None:
    table = PAGE.partition("| name | type and shape | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [INPUT_NAME, THRESHOLD_NAME, *OUTPUT_NAMES]
    assert f"It describes schema version {SCHEMA_VERSION}." in PAGE


def test_the_page_names_each_command_that_opens_a_bundle_and_each_can_require_a_signature() -> None:
    group = typer.main.get_command(app)
    context = group.make_context("blendmask", ["info"], resilient_parsing=True)
    parameters = {name: group.get_command(context, name).params for name in group.list_commands(context)}
    requiring = {name for name, all_of in parameters.items() if any("--require-signature" in p.opts for p in all_of)}
    named = re.search(r"has `--require-signature`: ([\w,\s-]+)\.", PAGE)
    assert named is not None
    assert set(re.split(r",\s+", named[1])) == requiring
    taking = {name for name, all_of in parameters.items() if any("M.bmz" in str(p.metavar) for p in all_of)}
    assert taking - {"sign", "verify", "quantize"} <= requiring
