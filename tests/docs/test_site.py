"""The API reference of the site has every public name, and its navigation every page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs/site"
PACKAGES = ("blendmask_edge", "blendmask_quantize", "blendmask_calibration")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name_once(package: str) -> None:
    page = (SITE / f"api/{package}.rst").read_text(encoding="utf-8")
    listed = re.findall(rf"^\.\. (?:auto\w+|py:data):: {package}\.(\w+)$", page, re.MULTILINE)
    elsewhere = {"__version__"} | ({"CalibrationDataset"} if package == "blendmask_quantize" else set())
    assert sorted(listed) == sorted(set(importlib.import_module(package).__all__) - elsewhere)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_names_modules_that_exist(package: str) -> None:
    page = (SITE / f"api/{package}.rst").read_text(encoding="utf-8")
    for path in re.findall(rf"^\.\. auto\w+:: ({package}\.\w+\..+)$", page, re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
