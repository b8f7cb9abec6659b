"""Arguments of the public functions: refused before torch is loaded, in the product's own errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge.errors import BlendMaskError, CalibrationError, CheckpointError, ConfigError, OutputError
from blendmask_quantize import list_configs, quantize, register_config
from blendmask_quantize.model.config import ModelConfig, get_config


@pytest.mark.parametrize(
    "error, message, change",
    [
        (CheckpointError, "no checkpoint at", {"checkpoint": "nowhere.pth"}),
        (CalibrationError, "is not a folder", {"calibration": "nowhere"}),
        (CalibrationError, "of type int", {"calibration": 3}),
        (OutputError, "is a folder", {"output": "."}),
        (ConfigError, "did you mean ptq", {"recipe": "ptqq"}),
        (ConfigError, "did you mean ignored", {"ignore": ("stem",)}),
        (ConfigError, "a tuple of names", {"ignored": "stem"}),
        (ConfigError, "height and width", {"size": (64.5, 96)}),
        (ConfigError, "from 1 to 100", {"detections": 101}),
        (ConfigError, "--iterations is of no use", {"iterations": 5}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_one_message(
    checkpoint_path: Path, photographs: Path, tmp_path: Path, error: type[BlendMaskError], message: str,
    change: dict[str, Any],
) -> None:  # fmt: skip
    given = {"checkpoint": checkpoint_path, "calibration": photographs, "output": tmp_path / "m.bmz", **change}
    with pytest.raises(error, match=message):
        quantize(**given)
    assert not list(tmp_path.iterdir())


def test_they_are_refused_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from blendmask_quantize import quantize\n"
        "try: quantize('nowhere.pth', '.', 'm.bmz')\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout == "CheckpointError False\n"


def test_a_registered_configuration_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blendmask_quantize.model.config.CONFIGS", known := dict(_known()))
    monkeypatch.setattr("blendmask_quantize.model.config.CONFIGS", known)
    config = register_config(ModelConfig("OWN", num_classes=3))
    assert "OWN" in list_configs()
    assert get_config("OWN") is config
    with pytest.raises(ConfigError, match="already"):
        register_config(ModelConfig("OWN", num_classes=4))


def _known() -> dict[str, ModelConfig]:
    return {name: get_config(name) for name in list_configs()}
