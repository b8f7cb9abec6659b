"""Make the checkpoints and bundles of the shrink study in a folder; what lies there is not made again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from bench.lib.command import blendmask
from bench.shrink.experiments import CHOICES, CHOSEN, PRUNED, RATIO, Experiment
from blendmask_edge import Bundle
from blendmask_edge.evaluation.annotations import read_coco
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.macs import count_macs

TRAIN = "train"
_SETTING_FILE = "setting.json"


@dataclass(frozen=True)
class Workshop:
    """What is made, and of what.

    Attributes:
        folder: where it lies.
        checkpoint: of the network.
        data: folder of homescenes.
        prune_iterations, qat_iterations: of fine-tuning after pruning, and of training with quantization.
        choice_iterations: of fine-tuning where ways to choose channels are compared.
        held_out: of the training images, those that this comparison is evaluated on instead.
    """

    folder: Path
    checkpoint: Path
    data: Path
    prune_iterations: int
    qat_iterations: int
    choice_iterations: int
    held_out: int

    def check(self, limit: int | None) -> None:
        """See that the data is there, and that what lies in the folder was made in the same way.

        Args:
            limit: images of each split that are evaluated.

        Raises:
            SystemExit: it says what is wrong.
        """
        missing = [name for name in ("train.json", "val.json", "val_seen.json") if not (self.data / name).is_file()]
        if missing:
            sys.exit(f"error: {self.data} lacks {', '.join(missing)}: give the folder of homescenes")
        setting = {
            "checkpoint": hashlib.sha256(self.checkpoint.read_bytes()).hexdigest(),
            "annotations": hashlib.sha256(self._labels.read_bytes()).hexdigest(),
            "options": [[str(word) for word in words] for words in (*PRUNED.values(), CHOSEN)],
            **{name: getattr(self, name) for name in ("prune_iterations", "qat_iterations", "choice_iterations")},
            "held_out": self.held_out, "limit": limit,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _SETTING_FILE
        former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else setting
        moved = [f"{key} {former.get(key)}, not {value}" for key, value in setting.items() if former.get(key) != value]
        if moved:
            sys.exit(
                f"error: {self.folder} was made with {'; '.join(moved)}: name another --work, or remove that folder"
            )
        write_bytes(path, json.dumps(setting, indent=2).encode())

    def bundle(self, experiment: Experiment) -> Path:
        """Path of the bundle of an experiment.

        Raises:
            SystemExit: a command failed; it has said why.
        """
        path = self.folder / f"{experiment.file_name}.bmz"
        if not path.exists():
            words = ["--calibration", self._images, "--recipe", experiment.recipe, "--output", path]
            words += ["--annotations", self._labels] if experiment.labels else []
            words += ["--keep-float"] if experiment.float_name else []
            words += ["--resume", "--iterations", self.qat_iterations] if experiment.recipe != "ptq" else []
            if experiment.recipe.startswith("edge"):
                words += ["--macs", RATIO, "--prune-iterations", self.prune_iterations]
            blendmask("quantize", self.source(experiment), *words)
        return path

    def source(self, experiment: Experiment) -> Path:
        """Path of the checkpoint that an experiment quantizes, pruned if it says so.

        Raises:
            SystemExit: the pruning failed; the command has said why.
        """
        return self.pruned(experiment.pruned) if experiment.pruned else self.checkpoint

    def pruned(self, name: str) -> Path:
        """Path of a pruned checkpoint; see `source`."""
        path = self.folder / f"{name}.safetensors"
        return self._prune(path, self._labels, self.prune_iterations, *PRUNED[name], *CHOSEN)

    def choice(self, name: str) -> Path:
        """Path of a checkpoint pruned in one of the ways that are compared; see `source`."""
        return self._prune(
            self.folder / f"choice-{name}.safetensors", self.parts["fit"], self.choice_iterations,
            *PRUNED["pruned-50"], *CHOICES[name],
        )  # fmt: skip

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Annotations of training images: those that choices are trained on, `fit`, and those held out, `held-out`."""
        document = json.loads(self._labels.read_bytes())
        ids = sorted(image["id"] for image in document["images"])
        parts = {"fit": set(ids[: -self.held_out]), "held-out": set(ids[-self.held_out :])}
        paths = {}
        for name, kept in parts.items():
            part = document | {
                "images": [image for image in document["images"] if image["id"] in kept],
                "annotations": [entry for entry in document["annotations"] if entry["image_id"] in kept],
            }
            paths[name] = self.folder / f"{name}.json"
            write_bytes(paths[name], json.dumps(part).encode())
        return paths

    def facts(self, experiment: Experiment) -> dict[str, dict[str, float]]:
        """Work, size and training of each graph, by the name of its rows."""
        manifest = Bundle.open(self.bundle(experiment)).manifest
        model = BlendMask(msgspec.convert(manifest.config, ModelConfig))
        qat = manifest.recipe.options.get("qat", {})
        shared = {
            "macs": count_macs(model, (manifest.input.height, manifest.input.width)),
            "training_images": self._trained_on(experiment, manifest.recipe.options),
            **({"training_kept": int(qat["kept"] == "qat")} if qat else {}),
        }
        sizes = {
            name: manifest.graphs[variant].size for name, variant in (experiment.graphs | experiment.timed).items()
        }
        return {
            name: {**shared, "size_bytes": size, "size_ratio": round(size / (4 * self._weights), 4)}
            for name, size in sizes.items()
        }

    def _trained_on(self, experiment: Experiment, steps: Mapping[str, Any]) -> int:
        """Images that were trained on while shrinking."""
        before = len(read_coco(self._labels).imgs) if experiment.pruned else 0
        return max(before, *(step.get("trained_on", 0) for step in steps.values() if isinstance(step, dict)), 0)

    def _prune(self, path: Path, labels: Path, iterations: int, *options: object) -> Path:
        if not path.exists():
            images = ["--images", self._images, "--annotations", labels, "--output", path]
            blendmask("prune", self.checkpoint, *images, *options, "--iterations", iterations, "--resume")
        return path

    @cached_property
    def loaded(self) -> Checkpoint:
        """The checkpoint of the network."""
        return load_checkpoint(self.checkpoint)

    @property
    def _weights(self) -> int:
        return sum(parameter.numel() for parameter in self.loaded.model.parameters())

    @property
    def _images(self) -> Path:
        return self.data / TRAIN

    @property
    def _labels(self) -> Path:
        return self.data / f"{TRAIN}.json"
