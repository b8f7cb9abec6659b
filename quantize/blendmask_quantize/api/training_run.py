"""Checks of a run that `train` and `distill` make before they load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blendmask_quantize.api.arguments import as_progress, changed, check_folder_output, check_tensorboard
from blendmask_quantize.api.values import FLAG, as_path
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.runs.run_folder import MODEL_FILE, RunFolder
from blendmask_quantize.training.options import TrainOptions

if TYPE_CHECKING:
    from pathlib import Path

    from blendmask_quantize.training.job import TrainingJob


@dataclass(frozen=True)
class TrainingRun:
    """A run that may begin or go on.

    Attributes:
        options: with the changes of the caller.
        folder: of the run.
        progress: what stages are announced to.
        resume: whether the run in the folder goes on.
    """

    options: TrainOptions
    folder: RunFolder
    progress: Progress
    resume: bool

    def train(self, job: TrainingJob) -> Path:
        """Train, and return the path of the checkpoint.

        Raises:
            CheckpointError: the folder contains another run.
        """
        from blendmask_quantize.training.job import run_job

        return run_job(job, self.folder, self.progress, resume=self.resume)


def check_run(
    command: str, output: PathLike, options: TrainOptions | None, default: TrainOptions, changes: dict[str, Any], *,
    resume: bool, progress: Progress | None,
) -> TrainingRun:  # fmt: skip
    """Check the options and the folder of a run.

    Args:
        command: "train" or "distill".
        output: folder of the run.
        options: None takes `default`.
        default: options of the command.
        changes: fields that override those of the options.
        resume: whether to continue the run in the folder.
        progress: callback, or None.

    Raises:
        CheckpointError: the folder contains another run, or one that is finished.
        ConfigError: an option is unknown or out of range.
        DependencyError: TensorBoard is asked for and not installed.
        OutputError: the folder cannot be written.
    """
    path, on_stage = as_path("output", output), as_progress(progress)
    FLAG.check("resume", resume)
    chosen = changed(options, default, changes, command)
    chosen.check_learns()
    check_tensorboard(chosen.tensorboard)
    check_folder_output(path)
    folder = RunFolder(path, f"blendmask {command}", result=MODEL_FILE)
    folder.check_state(resume=resume)
    return TrainingRun(chosen, folder, on_stage, resume)
