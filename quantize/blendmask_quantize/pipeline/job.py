"""A checkpoint to quantize and how, found possible before long work."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import fx, nn

from blendmask_calibration.dataset import CalibrationDataset
from blendmask_calibration.sampling import list_images
from blendmask_edge.errors import OutputError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.input_size import input_size
from blendmask_quantize.model.patterns import Pattern, describe_pattern, parse_pattern
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.pipeline.device import Device, find_device
from blendmask_quantize.pipeline.options import QuantizeOptions
from blendmask_quantize.pipeline.settings import RecipeSettings
from blendmask_quantize.pipeline.stage_results import StageResults
from blendmask_quantize.quantization.refine.steps import Step, chosen_steps
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.network_digest import network_digest
from blendmask_quantize.runs.progress import Progress, silent
from blendmask_quantize.runs.run_folder import RunFolder
from blendmask_quantize.training.student import check_teacher
from blendmask_quantize.validation.measure import Evaluation
from blendmask_quantize.validation.network_predictor import NetworkPredictor


@dataclass(frozen=True)
class Job:
    """One call of `quantize`.

    Attributes:
        checkpoint: the network and its labels.
        network: the same in float, traced, with the ignored layers marked.
        dataset: calibration images.
        output: path of the bundle.
        recipe: what the recipe is set to.
        options: further options.
        size: height and width of the network input.
        bounds: sizes of the selection at this size.
        steps: of refinement after calibration.
        evaluation: data that accuracy is measured on; empty for none, else one.
        progress: announces stages.
        teacher: network that training with quantizers learns from; None takes the float one.
        device: this machine, where the network is compiled for it; None where it is not.
        resources: closed when the bundle is written, or when that fails.
    """

    checkpoint: Checkpoint
    network: fx.GraphModule
    dataset: CalibrationDataset
    output: Path
    recipe: RecipeSettings
    options: QuantizeOptions
    size: tuple[int, int]
    bounds: Bounds
    steps: tuple[Step, ...]
    evaluation: tuple[Evaluation, ...] = ()
    progress: Progress = silent
    teacher: Checkpoint | None = None
    device: Device | None = None
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def command(self) -> str:
        """The command that a user would type to resume."""
        return f"blendmask quantize --recipe {self.recipe.name}"

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """RGB gray levels of the padding."""
        return pad_value(self.checkpoint.config.input)

    @cached_property
    def ignored(self) -> tuple[str, ...]:
        """The ignored layers, as given."""
        return tuple(describe_pattern(pattern) for pattern in self.ignored_layers)

    @property
    def ignored_layers(self) -> tuple[Pattern, ...]:
        """The layers that recipe or options leave in float."""
        return _ignored(self.recipe, self.options)

    @property
    def evaluation_paths(self) -> list[Path]:
        """The images that accuracy is measured on."""
        return [path for evaluation in self.evaluation for path in evaluation.images.paths]

    def of(self, checkpoint: Checkpoint) -> Job:
        """The same job for another checkpoint."""
        return replace(self, checkpoint=checkpoint, network=_traced(checkpoint, self.recipe, self.options))

    def graph(self, network: nn.Module, *, live_rows: bool = False) -> DeployableGraph:
        """The deployable graph around a network; see `DeployableGraph`."""
        asked = asked_bounds(self.options)
        return DeployableGraph(self.checkpoint.model, network, self.size, asked, live_rows=live_rows).eval()

    def predictor(self, network: nn.Module) -> NetworkPredictor:
        """A predictor that runs a network within the deployable graph."""
        return NetworkPredictor(self.graph(network), self.checkpoint.labels, self.pad_value)

    @cached_property
    def stage_results(self) -> StageResults:
        """Results of stages that the guard refused."""
        return StageResults(RunFolder.beside(self.output, self.command).path, lambda: _identity(self))

    def clear(self) -> None:
        """Remove what earlier runs of this job left beside the output."""
        RunFolder.beside(self.output, self.command).discard()
        self.stage_results.clear()

    def keep(self, run_folder: RunFolder) -> None:
        """Keep the state of an interrupted run in a folder until the bundle is written."""
        self.resources.enter_context(run_folder.active())


def make_job(
    checkpoint: Checkpoint, dataset: CalibrationDataset, output: Path, recipe: RecipeSettings,
    options: QuantizeOptions,
    evaluation: tuple[Evaluation, ...] = (), progress: Progress = silent, teacher: Checkpoint | None = None,
) -> Job:  # fmt: skip
    """See that all can be done, as far as that can be told without reading the calibration images.

    Raises:
        ConfigError: unknown step, an input size that the network cannot take, an ignored layer that does not exist,
            deformable convolutions, a teacher with other outputs, or a device that this is not.
        RuntimeUnavailableError: what compiles for this device is missing.
        AnnotationError: the evaluation data do not fit the network.
        OutputError: the disk of the output, or that of temporary files, has no room for the bundle.
    """
    _check_room(output.parent, checkpoint, "make room, or choose another folder for the output")
    _check_room(Path(tempfile.gettempdir()), checkpoint, "make room, or set TMPDIR to another folder")
    device = None if options.torch_tensorrt is None else find_device(options.torch_tensorrt, output)
    size = input_size(checkpoint.config.input, options.size)
    steps = tuple(chosen_steps(recipe.steps, recipe.calibration.estimator))
    for data in evaluation:
        data.images.check_labels(checkpoint.labels)
    if teacher is not None:
        check_teacher(checkpoint.config, teacher)
    network = _traced(checkpoint, recipe, options)
    bounds = asked_bounds(options).within(checkpoint.config, size)
    return Job(
        checkpoint, network, dataset, output, recipe, options, size, bounds, steps, evaluation, progress, teacher,
        device,
    )  # fmt: skip


def asked_bounds(options: QuantizeOptions) -> Bounds:
    """Sizes of the selection that a user asks for."""
    return Bounds(candidates=options.candidates, detections=options.detections)


def _traced(checkpoint: Checkpoint, recipe: RecipeSettings, options: QuantizeOptions) -> fx.GraphModule:
    return trace_network(checkpoint.model, _ignored(recipe, options))


def _ignored(recipe: RecipeSettings, options: QuantizeOptions) -> tuple[Pattern, ...]:
    """The layers that recipe or options leave in float."""
    return (*map(parse_pattern, recipe.ignored), *options.ignored)


def _identity(job: Job) -> str:
    """A digest of what the results of a job's stages depend on; empty where that cannot be told from files."""
    try:
        return "" if job.dataset.folder is None else _digest(job, job.dataset.folder)
    except OSError:
        return ""


def _digest(job: Job, folder: Path) -> str:
    unrelated = replace(job.options, allow=(), evaluation=None, arithmetic=False, license="", resume=False)
    unrelated = replace(unrelated, torch_tensorrt=None)
    options = replace(unrelated, annotations=None, ignored=(), processes=1, ray=None)
    measured_on = sorted(map(str, job.evaluation_paths)) if job.recipe.trains else []
    annotations = [] if job.options.annotations is None else [Path(job.options.annotations)]
    labels = job.checkpoint.labels
    parts = [
        importlib.metadata.version("blendmask-edge"), network_digest(job.checkpoint.model), job.checkpoint.config,
        labels.names, labels.category_ids, job.recipe, options, job.size, job.ignored,
        _listing([*list_images(folder), *annotations]), measured_on,
    ]  # fmt: skip
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _listing(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of files."""
    return [(str(path), status.st_size, status.st_mtime_ns) for path, status in ((path, path.stat()) for path in paths)]


def _check_room(folder: Path, checkpoint: Checkpoint, advice: str) -> None:
    """See that a folder has room for the weights of both INT8 graphs, one byte each."""
    needed, free = 2 * sum(weight.numel() for weight in checkpoint.model.parameters()), shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the disk of {folder.absolute()} has {free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB are needed at the "
            f"least: {advice}"
        )
