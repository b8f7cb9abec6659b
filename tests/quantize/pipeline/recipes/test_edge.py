"""Recipe edge, pruning and then training with quantizers, as one command: in one go, or in as many as it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import AnnotationError, BlendMaskError, CalibrationError, CheckpointError, ConfigError
from blendmask_quantize import QuantizeOptions
from blendmask_quantize import quantize as public_quantize
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.cli import tables
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.pipeline import comparison, edge_stages
from blendmask_quantize.pipeline.report import Report
from blendmask_quantize.pruning.budget import TOLERANCE
from blendmask_quantize.pruning.job import prune
from blendmask_quantize.pruning.options import PruneOptions, fine_tuning
from blendmask_quantize.quantization.qat.data import labeled_data
from blendmask_quantize.quantization.qat.options import schedule
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.images import PLAIN, SIZE, describe, some_images, write_annotations, write_images
from tests.quantize.prunable import SMALL
from tests.quantize.tiny import LABELS, tiny_model

# Painted rectangles are no photographs, and the guard knows.
ALLOWED = (
    "few-images", "near-duplicates", "small-images", "blank-images", "channel-order", "colorless-images",
    "not-photographs",
)  # fmt: skip
IMAGES = 10
FOLDER: list[Path] = []
STAGES = ("measuring channels", "fine-tuning", "calibrating", "training with quantization")

Stage = Callable[[str, int], Callable[[], None]]


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def quiet(_name: str, _total: int) -> Callable[[], None]:
    return lambda: None


def interrupting(*stages: str, after: int = 0) -> Stage:
    """Progress that breaks off in any of some stages, after a number of steps."""

    def announce(name: str, _total: int) -> Callable[[], None]:
        steps = iter(range(after))

        def step() -> None:
            if name in stages and next(steps, None) is None:
                raise Interrupted

        return step

    return announce


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    write_images(path, some_images(IMAGES))
    FOLDER[:] = [path]
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, tiny_model(SMALL), LABELS)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def options(folder: Path) -> QuantizeOptions:
    qat_options = schedule(iterations=4, learning_rate=1e-4)
    qat = replace(qat_options.training, batch=1, workers=0, augmentation=PLAIN, save_every=2)
    training = TrainOptions(
        iterations=4, batch=2, learning_rate=1e-3, precision="32-true", workers=0, save_every=2,
        losses=LossOptions(mask_positives=16),
    )  # fmt: skip
    return QuantizeOptions(
        count=3, allow=ALLOWED, estimator="max", size=SIZE, detections=10, annotations=folder / "annotations.json",
        qat=replace(qat_options, training=qat), pruning=PruneOptions(0.7, fine_tuning(training), batches=2),
    )  # fmt: skip


def quantize(
    checkpoint: Checkpoint, output: Path, options: QuantizeOptions, progress: Stage = quiet, recipe: str = "edge"
) -> Report:
    """The public function, on the folder of the annotations, or of the unlabeled images."""
    folder = FOLDER[0] if options.annotations is None or not Path(options.annotations).is_file() else None
    source = folder or Path(options.annotations).parent
    return public_quantize(checkpoint, source, output, recipe, options=options, progress=progress)


def with_pruning(options: QuantizeOptions, **changes: object) -> QuantizeOptions:
    assert options.pruning is not None
    return replace(options, pruning=replace(options.pruning, **changes))


@pytest.fixture
def shrunk(checkpoint: Checkpoint, options: QuantizeOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs the recipe up to the export, and gives weights and scales of the three networks that would be exported."""

    def run(name: str, stage: Stage = quiet, *, resume: bool = False) -> list[dict[str, torch.Tensor]]:
        found: list[dict[str, torch.Tensor]] = []

        def exported(graph: torch.nn.Module) -> onnx.ModelProto:
            found.append(graph.state_dict())
            if len(found) == 3:
                raise Interrupted
            return onnx.ModelProto()

        monkeypatch.setattr(comparison, "export_onnx", exported)
        monkeypatch.setattr(comparison, "check_parity", lambda *_: None)
        with pytest.raises(Interrupted):
            quantize(checkpoint, tmp_path / name, replace(options, resume=resume), stage)
        return found

    return run


@pytest.mark.slow
def test_one_command_gives_a_bundle_that_predicts_with_less_work(
    checkpoint: Checkpoint, options: QuantizeOptions, folder: Path, tmp_path: Path
) -> None:
    quantize(checkpoint, tmp_path / "m.bmz", options, quiet, "edge-sparse")
    sparsity = Bundle.open(tmp_path / "m.bmz").manifest.recipe.options["sparsity"]
    assert sparsity["layers"] > 40
    assert min(sparsity["groups"].values()) > 0.8
    plain = replace(options, annotations=None, pruning=None, qat=None)
    quantize(checkpoint, tmp_path / "ptq.bmz", plain, quiet, "ptq")
    with MaskPredictor(tmp_path / "m.bmz", "onnxruntime") as predictor:
        found = predictor(read_image(folder / "0.png"))
    assert found.masks.shape == (len(found), *SIZE)
    assert set(found.class_names) <= set(LABELS.names)
    edge, ptq = (kernel_sizes(tmp_path / name) for name in ("m.bmz", "ptq.bmz"))
    assert len(edge) == len(ptq)
    assert all(thin <= full for thin, full in zip(edge, ptq, strict=True))
    assert sum(edge) < 0.85 * sum(ptq)


def kernel_sizes(bundle: Path) -> list[int]:
    """Number of weights of each convolution of the `cpu` graph, in its order."""
    graph = onnx.load_from_string(Bundle.open(bundle).graph("cpu")).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    kernels = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    return [sizes[sources.get(kernel, kernel)] for kernel in kernels]


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_the_bundle_and_the_report_say_how_it_was_pruned_and_trained(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = quantize(checkpoint, tmp_path / "m.bmz", replace(options, detections=20), quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["m.bmz"], "the run is gone"
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert (manifest.recipe.name, manifest.recipe.version) == ("edge", "3")
    pruning, qat_options = manifest.recipe.options["pruning"], manifest.recipe.options["qat"]
    pruned = BlendMask(msgspec.convert(manifest.config, ModelConfig))
    assert (pruning["macs_before"], pruning["macs"]) == (count_macs(checkpoint.model), count_macs(pruned))
    assert pruning["ratio"] == pruning["macs"] / pruning["macs_before"] == pytest.approx(0.7, rel=TOLERANCE)
    assert (pruning["asked"], pruning["iterations"]) == (0.7, 4)
    assert pruning["trained_on"] == qat_options["trained_on"] == IMAGES - qat_options["held_out"]
    assert qat_options == report.training["qat"].record()
    tables.show_report(report, as_json=False)
    assert "the pruned network needs" in capsys.readouterr().out
    tables.show_report(report, as_json=True)
    assert json.loads(capsys.readouterr().out)["pruning"] == pruning


class TestResuming:
    @pytest.mark.slow
    def test_a_run_cut_off_in_each_part_ends_as_one_that_was_not(self, shrunk, checkpoint, options, tmp_path) -> None:
        expected = shrunk("whole.bmz")
        cut_off = tmp_path / "m.bmz"
        parts = {"fine-tuning": 3, "calibrating": 0, "training with quantization": 3}
        for stage, after in parts.items():
            with pytest.raises(Interrupted):
                quantize(checkpoint, cut_off, replace(options, resume=True), interrupting(stage, after=after))
        # Steps 0 and 1 of training lie in its checkpoint, and neither pruning nor calibration is done again.
        steps: list[str] = []
        found = shrunk("m.bmz", lambda name, _: lambda: steps.append(name), resume=True)
        assert not {"measuring channels", "fine-tuning", "calibrating"} & set(steps)
        assert steps.count("training with quantization") == 2
        assert len(found) == len(expected) == 3
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[name]) for name, value in one.items())

    def test_images_held_out_to_judge_are_not_pruned_by(
        self, checkpoint, options, folder, tmp_path, monkeypatch
    ) -> None:
        seen: list[CocoImages] = []

        def watched(_checkpoint: Checkpoint, sources: list[CocoImages], *_: object, **__: object) -> None:
            seen.extend(sources)
            raise Interrupted

        monkeypatch.setattr(edge_stages, "prune", watched)
        with pytest.raises(Interrupted):
            quantize(checkpoint, tmp_path / "m.bmz", options, quiet)
        names = {name for source in seen for name in source.file_names}
        held_out = labeled_data(folder, folder / "annotations.json", checkpoint, options.qat).held_out
        assert names | {path.name for path in held_out.paths} == {f"{i}.png" for i in range(IMAGES)}
        assert len(names) == IMAGES - len(held_out.ids)

    @pytest.mark.slow
    def test_nothing_to_resume_is_a_new_run(self, checkpoint, options, tmp_path) -> None:
        with pytest.raises(Interrupted):
            quantize(checkpoint, tmp_path / "m.bmz", replace(options, resume=True), interrupting("fine-tuning"))

    @pytest.mark.slow
    def test_a_run_that_breaks_off_before_there_is_anything_to_keep_leaves_nothing(
        self, checkpoint, options, tmp_path
    ) -> None:
        for stage in ("looking for instances", "measuring channels"):
            with pytest.raises(Interrupted):
                quantize(checkpoint, tmp_path / "m.bmz", options, interrupting(stage))
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_an_interruption_by_the_user_names_the_folder_and_the_option(self, checkpoint, options, tmp_path) -> None:
        def stopped(name: str, _total: int) -> Callable[[], None]:
            def step() -> None:
                if name == "fine-tuning":
                    raise KeyboardInterrupt

            return step

        kept = f"interrupted; the work so far is kept in {tmp_path / 'm.run'}: the same command with --resume"
        with pytest.raises(KeyboardInterrupt, match=re.escape(kept)):
            quantize(checkpoint, tmp_path / "m.bmz", options, stopped)

    def test_annotations_that_do_not_fit_are_refused_before_layers_are_timed(
        self, checkpoint, options, tmp_path, monkeypatch
    ) -> None:
        def timed(*_: object) -> None:
            raise AssertionError("layers are timed")

        monkeypatch.setattr("blendmask_quantize.latency.network.latency_cost", timed)
        annotations = json.loads(Path(options.annotations).read_text())
        annotations["images"][0]["file_name"] = "missing.png"
        (tmp_path / "other.json").write_text(json.dumps(annotations))
        wrong = replace(with_pruning(options, target="latency", ratio=0.5), annotations=tmp_path / "other.json")
        with pytest.raises(AnnotationError, match=r"missing\.png"):
            public_quantize(checkpoint, FOLDER[0], tmp_path / "m.bmz", "edge", options=wrong)


@pytest.fixture(scope="module", params=["fine-tuning", pytest.param("calibrating", marks=pytest.mark.slow)])
def begun(request, checkpoint, options, tmp_path_factory) -> Path:
    """A folder in which a run for `m.bmz` broke off while pruning, or after it."""
    path = tmp_path_factory.mktemp("begun")
    with pytest.raises(Interrupted):
        quantize(checkpoint, path / "m.bmz", options, interrupting(request.param))
    return path


class TestUnfinishedRuns:
    """Whatever may not go on with an unfinished run says so, and leaves every byte of it."""

    @pytest.fixture(autouse=True)
    def nothing_lost(self, begun: Path):
        before = contents(begun)
        assert before
        yield
        assert contents(begun) == before

    def refused(self, begun, checkpoint, options, message, recipe="edge", **changes) -> None:
        with pytest.raises(CheckpointError, match=message):
            quantize(checkpoint, begun / "m.bmz", replace(options, **changes), interrupting(*STAGES), recipe)

    def test_it_is_not_begun_again_unasked(self, begun, checkpoint, options) -> None:
        self.refused(begun, checkpoint, options, "go on with --resume")

    def test_another_ratio(self, begun, checkpoint, options) -> None:
        other = with_pruning(options, ratio=0.6)
        self.refused(begun, checkpoint, other, r"macs 0\.7 instead of 0\.6", resume=True)

    def test_another_number_of_iterations(self, begun, checkpoint, options) -> None:
        training = replace(options.pruning.training, iterations=7)
        other = with_pruning(options, training=training)
        self.refused(begun, checkpoint, other, "fine-tuning iterations 4 instead of 7", resume=True)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"count": 5}, "calibration count 3 instead of 5"),
            pytest.param({"seed": 3}, "calibration seed 0 instead of 3", marks=pytest.mark.slow),
            pytest.param({"estimator": "mse"}, "estimator max instead of mse", marks=pytest.mark.slow),
        ],
    )
    def test_another_calibration(self, begun, checkpoint, options, change, message) -> None:
        other = replace(options, **change)
        self.refused(begun, checkpoint, other, message, resume=True)

    def test_another_checkpoint_of_the_same_configuration(self, begun, checkpoint, options) -> None:
        other = replace(checkpoint, model=tiny_model(SMALL, seed=1))
        self.refused(begun, other, options, "another network", resume=True)

    def test_other_annotations(self, begun, checkpoint, options, tmp_path) -> None:
        write_images(tmp_path, some_images(IMAGES, seed=1))
        other = tmp_path / "annotations.json"
        self.refused(begun, checkpoint, options, "another annotations file", annotations=other, resume=True)

    @pytest.mark.parametrize("resume", [False, True])
    def test_another_recipe(self, begun, checkpoint, options, resume) -> None:
        message = "unfinished run of `blendmask quantize --recipe edge`, not of `blendmask quantize --recipe qat`"
        self.refused(begun, checkpoint, options, message, recipe="qat", pruning=None, resume=resume)

    @pytest.mark.parametrize("resume", [False, True])
    def test_another_command(self, begun, checkpoint, options, folder, resume) -> None:
        sources = [CocoImages.open(folder, folder / "annotations.json", SMALL, PLAIN)]
        with pytest.raises(CheckpointError, match="of `blendmask quantize --recipe edge`, not of `blendmask prune`"):
            prune(checkpoint, sources, begun / "m.safetensors", options.pruning, quiet, resume=resume)


@pytest.mark.parametrize("resume", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_of_the_prune_command_is_left_alone(checkpoint, options, folder, tmp_path, resume) -> None:
    sources = [CocoImages.open(folder, folder / "annotations.json", SMALL, PLAIN)]
    with pytest.raises(Interrupted):
        prune(checkpoint, sources, tmp_path / "m.safetensors", options.pruning, interrupting("fine-tuning"))
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="unfinished run of `blendmask prune`"):
        quantize(checkpoint, tmp_path / "m.bmz", replace(options, resume=resume), interrupting(*STAGES))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "error, message, change",
    [
        (ConfigError, "did you mean edge", {"recipe": "egde"}),
        (ConfigError, "give --annotations", {"annotations": None}),
        (ConfigError, r"Ask for 0\.\d+ or more", {"pruning": PruneOptions(0.01)}),
        (ConfigError, "above 0 and up to 1", {"pruning": PruneOptions(1.2)}),
        (ConfigError, "above 0 and up to 1", {"pruning": PruneOptions(0)}),
        (ConfigError, "--macs.* of no use to recipe qat.*--recipe edge", {"recipe": "qat"}),
        (
            ConfigError,
            "--macs.* of no use to recipe ptq.*--recipe edge",
            {"recipe": "ptq", "annotations": None, "qat": None},
        ),
        (AnnotationError, "cannot be read", {"annotations": Path("nowhere.json")}),
        (CalibrationError, "--allow", {"allow": ()}),
    ],
    ids=["recipe", "labels", "unreachable", "above", "zero", "qat", "ptq", "file", "guard"],
)
def test_bad_options_are_refused_before_long_work(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, error: type[BlendMaskError], message: str,
    change: dict[str, object],
) -> None:  # fmt: skip
    own = {name: value for name, value in change.items() if name != "recipe"}
    with pytest.raises(error, match=message):
        quantize(
            checkpoint, tmp_path / "m.bmz", replace(options, **own), interrupting(*STAGES), change.get("recipe", "edge")
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def other_classes(folder: Path) -> None:
    content = describe(some_images(IMAGES))
    for category in content["categories"]:
        category["name"] += "s"
    write_annotations(folder, content)


def fewer_classes(folder: Path) -> None:
    content = describe(some_images(IMAGES))
    dropped = content["categories"].pop()["id"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != dropped]
    write_annotations(folder, content)


def missing_image(folder: Path) -> None:
    (folder / "1.png").unlink()


def few_images(folder: Path) -> None:
    write_annotations(folder, describe(some_images(3)))


@pytest.mark.parametrize("spoil", [other_classes, fewer_classes, missing_image, few_images])
def test_annotations_that_do_not_fit_are_refused_before_long_work(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, some_images(IMAGES))
    out.mkdir()
    spoil(images)
    changed = replace(options, annotations=images / "annotations.json")
    with pytest.raises(AnnotationError):
        quantize(checkpoint, out / "m.bmz", changed, interrupting(*STAGES))
    assert not list(out.iterdir())


@pytest.mark.slow
def test_the_guard_judges_by_what_the_given_network_finds(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path
) -> None:
    blind = replace(checkpoint, model=tiny_model(SMALL))
    with torch.no_grad():
        blind.model.proposal_generator.fcos_head.cls_logits.bias.fill_(-30)
    for stages in (STAGES, (*STAGES, "looking for instances")):
        with pytest.raises(CalibrationError, match="--allow few-detections"):
            quantize(blind, tmp_path / "m.bmz", options, interrupting(*stages))
        assert "m.run/stage-detections.npz" in contents(tmp_path), "what the guard saw is kept and not looked for again"
