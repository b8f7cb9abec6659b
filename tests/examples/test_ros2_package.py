"""The ROS 2 package holds what colcon needs, and launches the node with parameters that it has."""

from __future__ import annotations

import configparser
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from blendmask_edge import MaskPredictor
from blendmask_edge.integrations import ros2

PACKAGE = Path(__file__).parents[2] / "examples/ros2"
NAMES = {name for name, _, _ in ros2.PARAMETERS}


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what setup.py gives to setuptools."""
    given: dict[str, Any] = {}
    setuptools = types.ModuleType("setuptools")
    setuptools.setup = given.update
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    runpy.run_path(str(PACKAGE / "setup.py"))
    return given


def test_colcon_finds_the_package_its_files_and_its_program(arguments: dict[str, Any]) -> None:
    manifest = ElementTree.parse(PACKAGE / "package.xml").getroot()
    name = manifest.findtext("name")
    assert name == arguments["name"]
    assert manifest.findtext("version") == arguments["version"]
    assert manifest.findtext("license") == arguments["license"]
    assert manifest.findtext("export/build_type") == "ament_python"
    installed = dict(arguments["data_files"])
    assert installed["share/ament_index/resource_index/packages"] == [f"resource/{name}"]
    assert f"share/{name}" in installed
    for file in (file for files in installed.values() for file in files):
        assert (PACKAGE / file).is_file()
    config = configparser.ConfigParser()
    config.read(PACKAGE / "setup.cfg")
    assert config["install"]["install_scripts"] == f"$base/lib/{name}"
    assert config["build_scripts"]["executable"] == "/usr/bin/env python3", "the Python of an environment is not used"
    assert arguments["entry_points"]["console_scripts"] == [f"masks = {name}.node:main"]


@pytest.mark.skipif(shutil.which("colcon") is None, reason="colcon is not installed")
def test_colcon_builds_the_package(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "src/blendmask_ros2")
    done = subprocess.run(["colcon", "build"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = tmp_path / "install/blendmask_ros2"
    assert (installed / "lib/blendmask_ros2/masks").read_text().startswith("#!/usr/bin/env python3\n")
    assert (installed / "share/blendmask_ros2/launch/masks.launch.py").is_file()


def test_manifest_names_the_packages_of_all_messages() -> None:
    manifest = ElementTree.parse(PACKAGE / "package.xml").getroot()
    named = {one.text for one in manifest.findall("exec_depend")}
    source = "".join(path.read_text(encoding="utf-8") for path in Path(ros2.__file__).parent.glob("*.py"))
    used = {word for word in ("builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "rcl_interfaces", "rclpy",
                              "sensor_msgs", "std_msgs", "vision_msgs") if word in source}  # fmt: skip
    assert used <= named


def test_program_runs_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run(open_predictor: Any) -> int:
        given.append(open_predictor)
        return 7

    monkeypatch.setattr(ros2, "run", run)
    with pytest.raises(SystemExit, match="7"):
        runpy.run_path(str(PACKAGE / "blendmask_ros2/node.py"), run_name="__main__")
    assert given == [MaskPredictor]


def test_program_without_ros_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(SystemExit, match="error: The node needs ROS 2"):
        runpy.run_path(str(PACKAGE / "blendmask_ros2/node.py"), run_name="__main__")


def test_file_of_parameters_holds_the_defaults_of_the_node() -> None:
    held = yaml.safe_load((PACKAGE / "config/masks.yaml").read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    defaults = {name: default for name, default, _ in ros2.PARAMETERS}
    assert held == {name: defaults[name] for name in held}


class Recorded:
    """Any class of the launch system; remembers its arguments."""

    def __init__(self, *values: Any, **named: Any) -> None:
        self.values, self.named = values, named


def test_launch_file_starts_the_program_with_parameters_that_it_has(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    for name, classes in {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.parameter_descriptions": ["ParameterValue"],
        "launch_ros.substitutions": ["FindPackageShare"],
    }.items():
        module = types.ModuleType(name)
        vars(module).update({each: type(each, (Recorded,), {}) for each in classes})
        monkeypatch.setitem(sys.modules, name, module)
    described = runpy.run_path(str(PACKAGE / "launch/masks.launch.py"))["generate_launch_description"]()
    *declared, node = described.values[0]
    assert node.named["package"] == arguments["name"]
    assert node.named["executable"] == arguments["entry_points"]["console_scripts"][0].split(" = ")[0]
    file, own = node.named["parameters"]
    assert set(own) <= NAMES
    assert [source for source, _ in node.named["remappings"]] == ["image"]
    used = {file.values[0], node.named["name"].values[0], node.named["remappings"][0][1].values[0]}
    used |= {value.values[0].values[0] for value in own.values()}
    assert used == {one.values[0] for one in declared}
