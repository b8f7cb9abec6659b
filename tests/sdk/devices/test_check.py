"""Each rule says no where the table says so, with source, mark, and the way that works."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from blendmask_edge import ConfigError
from blendmask_edge.bundle.manifest import Recipe
from blendmask_edge.cli.device_report import describe_result, describe_target, list_targets
from blendmask_edge.devices import CheckOptions, CheckResult, Reason, check, check_bundle, load_table
from blendmask_edge.devices.case import GPU_RUNTIMES
from blendmask_edge.runtimes.registry import RUNTIMES

TABLE = load_table()
MakeBundle = Callable[..., Any]
NAMES = [target.name for target in TABLE.targets]
NAMES_OF_RUNTIMES = {runtime.name for runtime in RUNTIMES}
GPUS = [target.name for target in TABLE.targets if target.kind != "cpu"]


def refusals(result: CheckResult) -> List[Reason]:
    """Return what makes it a no."""
    return [reason for reason in result.reasons if reason.kind == "refusal"]


def ask(bundle: Any, target: str, precision: Any = "int8", tensorrt: Any = None, runtime: Any = None) -> CheckResult:
    """Check, and hold the answer to what must be true of every answer."""
    result = check_bundle(bundle, target, CheckOptions(precision, tensorrt, runtime))
    assert result.ok == (not refusals(result))
    assert all(reason.source and reason.mark and reason.text for reason in result.reasons)
    return result


def only(result: CheckResult) -> Reason:
    """Return the one refusal."""
    (reason,) = refusals(result)
    return reason


def test_fp16_of_a_1080_ti_is_refused_for_int8_with_tensorrt_8(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "gtx-1080-ti", "fp16")
    no_fast, rate = refusals(result)
    assert (no_fast.text, no_fast.mark) == ("SM 6.1 has no fast FP16", "documented")
    assert "1/64" in rate.text
    assert rate.mark == "unverified"
    assert result.route is not None
    assert str(result.route) == "INT8 by TensorRT 8.6.1"
    assert (result.route.variant, result.route.needs) == ("tensorrt", ())


@pytest.mark.parametrize("version", ["10.0.1", "10.3", "9.1", "11.4.1"])
def test_newer_tensorrt_on_pascal_is_refused_for_8_6_1(make_bundle: MakeBundle, version: str) -> None:
    result = ask(make_bundle(), "gtx-1080-ti", tensorrt=version)
    reason = only(result)
    assert "8.6.1" in reason.text
    assert "Unsupported SM 0x601" in reason.source
    assert str(result.route) == "INT8 by TensorRT 8.6.1"


@pytest.mark.parametrize("target", ["jetson-nano", "jetson-tx2"])
def test_int8_without_dp4a_is_refused_for_fp16(make_bundle: MakeBundle, target: str) -> None:
    result = ask(make_bundle(), target)
    assert any("no INT8 path" in reason.text and "dp4a" in reason.source for reason in refusals(result))
    assert str(result.route) == "FP16 by TensorRT 8.2.1"
    assert str(result.meanwhile) == "INT8 by ONNX Runtime"


def test_nano_takes_fp16_of_a_graph_made_for_its_parser(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(opset=13)
    needs = [reason.needs for reason in refusals(ask(bundle, "jetson-nano", "fp16"))]
    assert needs == ["a float32 input in place of Input(uint8)"]


def test_jetpack_4_warns_of_its_python(make_bundle: MakeBundle) -> None:
    cautions = [reason.text for reason in ask(make_bundle(), "jetson-nano").reasons if reason.kind == "caution"]
    assert any("Python 3.6" in text and "3.8" in text for text in cautions)


@pytest.mark.parametrize(
    "target, version, opset, cap",
    [("gtx-1080-ti", "8.6.1", 18, 17), ("jetson-xavier", "8.5.2", 18, 17), ("jetson-orin-nx", "10.3", 21, 20)],
)
def test_opset_past_the_parser_is_refused(
    make_bundle: MakeBundle, target: str, version: str, opset: int, cap: int
) -> None:
    reason = only(ask(make_bundle(opset=opset), target, tensorrt=version))
    assert reason.needs == f"opset {cap} or lower"
    assert ask(make_bundle(opset=cap), target, tensorrt=version).ok


@pytest.mark.parametrize("target, version", [("turing", "10.13.3"), ("jetson-thor", "10.13")])
def test_opset_of_which_nothing_is_known_is_a_caution(make_bundle: MakeBundle, target: str, version: str) -> None:
    result = ask(make_bundle(opset=24), target, tensorrt=version)
    assert result.ok
    assert any("nothing is known" in reason.text for reason in result.reasons if reason.kind == "caution")


@pytest.mark.parametrize("operator", ["GridSample", "Mod", "Trilu", "RoiAlign"])
def test_operators_before_tensorrt_8_5_are_refused(make_bundle: MakeBundle, operator: str) -> None:
    bundle = make_bundle(operators=[operator])
    old = ask(bundle, "jetson-xavier", tensorrt="8.4.1")
    assert any(reason.text.startswith(operator) for reason in refusals(old))
    assert str(old.route) == "INT8 by TensorRT 8.5.2"
    assert ask(bundle, "jetson-xavier", tensorrt="8.5.2").ok


@pytest.mark.parametrize(
    "operator", ["NonZero", "QLinearConv", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"]
)
def test_operators_that_no_version_takes_are_refused(make_bundle: MakeBundle, operator: str) -> None:
    reason = only(ask(make_bundle(operators=[operator]), "rtx-50"))
    assert operator in reason.text
    assert reason.needs is not None


def test_scatter_with_reduction_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(operators=["ScatterND"], attributes={"reduction": "add"})
    assert "ScatterND" in only(ask(bundle, "ada")).text
    assert ask(make_bundle(operators=["ScatterND"]), "ada").ok


@pytest.mark.parametrize("operator", ["RoiAlign", "NonMaxSuppression", "InstanceNormalization", "DeformConv"])
def test_operators_that_cost_are_cautions(make_bundle: MakeBundle, operator: str) -> None:
    result = ask(make_bundle(operators=[operator], opset=19), "jetson-orin-nx")
    assert result.ok
    assert any(operator in reason.text or "norm layer" in reason.text for reason in result.reasons)


def test_deformable_convolution_needs_tensorrt_10_1(make_bundle: MakeBundle) -> None:
    reason = only(ask(make_bundle(operators=["DeformConv"]), "gtx-1080-ti"))
    assert "10.1" in reason.text
    assert reason.needs is not None
    assert "without deformable convolution" in reason.needs


@pytest.mark.parametrize("k, fits", [(3840, True), (3841, False)])
def test_top_k_has_a_limit(make_bundle: MakeBundle, k: int, fits: bool) -> None:
    result = ask(make_bundle(top_k=k), "jetson-orin-nano")
    assert result.ok == fits
    if not fits:
        assert "3840" in only(result).text
        assert only(result).mark == "verified"


@pytest.mark.parametrize("properties", [{"zero_point": "UINT8"}, {"zero_point": "INT8", "zero": 3}])
def test_asymmetric_quantization_is_refused(make_bundle: MakeBundle, properties: Any) -> None:
    assert "symmetric" in only(ask(make_bundle(**properties), "turing")).text


def test_int32_bias_is_refused(make_bundle: MakeBundle) -> None:
    assert "INT32 bias" in only(ask(make_bundle(int32_bias=True), "turing")).text


def test_uint8_input_must_be_cast_first(make_bundle: MakeBundle) -> None:
    reason = only(ask(make_bundle(first="Transpose"), "jetson-orin-nx"))
    assert "Transpose" in reason.text
    assert reason.needs is not None


def test_cpu_takes_what_tensorrt_refuses(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(zero_point="UINT8", zero=128, int32_bias=True, top_k=5000, first="Transpose", opset=21)
    assert ask(bundle, "x86-vnni").ok


def test_torch_tensorrt_on_orin_is_2_8_with_tensorrt_10_3(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "jetson-orin-nx", runtime="torch_tensorrt")
    assert result.ok
    assert str(result.route) == "INT8 by Torch-TensorRT 2.8.0 with TensorRT 10.3"
    newer = ask(make_bundle(), "jetson-orin-nx", tensorrt="10.7", runtime="torch_tensorrt")
    assert "2.8.0" in only(newer).text
    assert str(newer.route) == "INT8 by Torch-TensorRT 2.8.0 with TensorRT 10.3"


def test_torch_tensorrt_on_pascal_has_no_int8(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "gtx-1080-ti", runtime="torch_tensorrt")
    assert "calibrators" in only(result).text
    assert str(result.route) == "INT8 by TensorRT 8.6.1"


def test_torch_tensorrt_without_a_release_is_refused(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "jetson-xavier", runtime="torch_tensorrt")
    assert "no Torch-TensorRT is known" in only(result).text
    assert str(result.route) == "INT8 by TensorRT 8.5.2"


def test_torch_tensorrt_follows_the_tensorrt_that_is_asked_for(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "rtx-30", tensorrt="10.9", runtime="torch_tensorrt")
    assert result.route is not None
    assert result.route.torch_tensorrt == "2.7.0"
    assert refusals(ask(make_bundle(), "rtx-30", tensorrt="10.5", runtime="torch_tensorrt"))


def test_torch_tensorrt_takes_the_graph_and_its_operators_are_judged_but_for_the_opset(
    make_bundle: MakeBundle,
) -> None:
    result = ask(make_bundle(opset=99), "jetson-orin-nx", runtime="torch_tensorrt")
    assert result.ok
    assert result.requested.variant == "tensorrt"
    refused = ask(make_bundle(top_k=4000), "jetson-orin-nx", runtime="torch_tensorrt")
    assert "3840" in only(refused).text
    assert "holds: cpu" in only(ask(make_bundle("cpu"), "jetson-orin-nx", runtime="torch_tensorrt")).text


def test_torch_tensorrt_makes_no_fp16_of_a_bundle_and_says_what_does(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "jetson-orin-nx", "fp16", runtime="torch_tensorrt")
    assert "no graph of a bundle is FP16" in only(result).text
    assert result.route is not None
    assert result.route.runtime == "tensorrt"


def test_torch_tensorrt_2_14_warns_that_flags_are_swallowed(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "ada", "fp16", runtime="torch_tensorrt")
    assert any("swallowed" in reason.text and reason.mark == "verified" for reason in result.reasons)


@pytest.mark.parametrize("version", ["11.0", "11.2.1", "11.4", "11.4.0"])
@pytest.mark.parametrize("target", ["jetson-agx-orin", "jetson-thor"])
def test_tensorrt_11_before_11_4_1_is_not_for_jetpack(make_bundle: MakeBundle, target: str, version: str) -> None:
    assert "11.4.1" in only(ask(make_bundle(), target, tensorrt=version)).text


@pytest.mark.parametrize("target, ok", [("jetson-agx-orin", True), ("jetson-thor", True), ("jetson-orin-nx", False)])
def test_tensorrt_11_4_1_is_for_agx_orin_and_thor(make_bundle: MakeBundle, target: str, ok: bool) -> None:
    assert ask(make_bundle(), target, tensorrt="11.4.1").ok == ok


@pytest.mark.parametrize(
    "target, version, ok",
    [
        ("jetson-thor", "10.12", False),
        ("jetson-thor", "10.13", True),
        ("jetson-thor", "10.16.1", True),
        ("jetson-orin-nx", "10.7", True),
        ("jetson-orin-nx", "10.13", False),
        ("jetson-xavier", "10.3", False),
        ("rtx-50", "10.7", False),
        ("rtx-50", "10.8", True),
    ],
)
def test_versions_have_bounds(make_bundle: MakeBundle, target: str, version: str, ok: bool) -> None:
    assert ask(make_bundle(), target, tensorrt=version).ok == ok


def test_a_jetpack_that_may_carry_a_version_gives_that_source(make_bundle: MakeBundle) -> None:
    reasons = ask(make_bundle(), "jetson-orin-nx", tensorrt="10.7").reasons
    (carried,) = [reason for reason in reasons if "goes with JetPack" in reason.text]
    assert "10.14.1 support matrix" in carried.source


@pytest.mark.parametrize("version, told", [("10.3", True), ("10.7", False), ("8.6", False)])
def test_topk_before_tensorrt_10_7_is_a_risk_with_a_way_out(make_bundle: MakeBundle, version: str, told: bool) -> None:
    result = ask(make_bundle(top_k=100), "jetson-orin-nx", tensorrt=version)
    assert result.ok
    found = [reason for reason in result.reasons if "update to 10.7" in reason.text]
    assert bool(found) == told
    assert all(reason.kind == "caution" and "the graph has 1" in reason.text for reason in found)


def test_operators_and_weights_of_the_graph_are_counted(make_bundle: MakeBundle) -> None:
    counted = [reason.text for reason in ask(make_bundle(operators=["Relu"] * 5), "ada").reasons]
    assert any(text.startswith("the tensorrt graph has 8 operators and 0.0 MB of weights") for text in counted)


def test_version_that_was_not_looked_at_is_a_caution(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "turing", tensorrt="11.5.0")
    assert result.ok
    assert any("was not looked at" in reason.text for reason in result.reasons)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("version, half, told", [("11.1", False, True), ("11.1", True, False), ("10.3", False, False)])
def test_half_remainder_by_casts_is_told(
    make_bundle: MakeBundle, precision: str, version: str, half: bool, told: bool
) -> None:
    result = ask(make_bundle(half=half), "ada", precision, version)
    assert result.ok
    assert any("`compile` adds casts" in reason.text for reason in result.reasons) == told


@pytest.mark.parametrize(
    "variants, precision, target, missing",
    [("cpu", "int8", "ada", "tensorrt"), ("cpu tensorrt", "fp32", "x86", "float"), ("tensorrt", "int8", "x86", "cpu")],
)
def test_a_graph_that_the_bundle_lacks_is_refused(
    make_bundle: MakeBundle, variants: str, precision: str, target: str, missing: str
) -> None:
    reason = only(ask(make_bundle(variants), target, precision))
    assert f"takes the {missing} graph" in reason.text
    assert reason.needs is not None
    assert "blendmask quantize" in reason.needs


def test_nothing_runs_where_the_bundle_has_no_graph_for_it(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle("cpu"), "gtx-1080-ti")
    assert result.route is not None
    assert result.route.needs == ("a tensorrt graph (`blendmask quantize`)",)
    assert str(result.meanwhile) == "INT8 by ONNX Runtime"


@pytest.mark.parametrize("runtime", ["tensorrt", "torch_tensorrt"])
def test_tensorrt_on_a_cpu_is_refused(make_bundle: MakeBundle, runtime: str) -> None:
    result = ask(make_bundle(), "x86", runtime=runtime)
    assert "needs an NVIDIA GPU" in refusals(result)[0].text
    assert str(result.route) == "INT8 by ONNX Runtime"


def test_fp16_on_a_cpu_is_refused_for_int8(make_bundle: MakeBundle) -> None:
    result = ask(make_bundle(), "x86-vnni", "fp16")
    assert "no graph of a bundle is FP16" in only(result).text
    assert str(result.route) == "INT8 by ONNX Runtime"


def test_cpu_without_vnni_is_told_to_be_exact(make_bundle: MakeBundle) -> None:
    sums = [reason for reason in ask(make_bundle(), "x86").reasons if "sums are exact" in reason.text]
    assert [reason.kind for reason in sums] == ["ground"]
    assert not any("saturate" in reason.text for reason in ask(make_bundle(), "x86-vnni").reasons)


def test_what_users_met_is_told_with_int8_only(make_bundle: MakeBundle) -> None:
    def told(precision: str) -> bool:
        return any("70 reformats" in reason.text for reason in ask(make_bundle(), "orin-nx", precision).reasons)

    assert told("int8")
    assert not told("fp16")


def test_unmeasured_accuracy_is_a_caution(make_bundle: MakeBundle) -> None:
    def warned(bundle: Any) -> bool:
        return any("no measured accuracy" in reason.text for reason in ask(bundle, "ada").reasons)

    assert warned(make_bundle(measured=False))
    assert not warned(make_bundle())


@pytest.mark.parametrize("target", GPUS)
def test_every_yes_for_a_gpu_says_that_no_device_ran_it(make_bundle: MakeBundle, target: str) -> None:
    reasons = ask(make_bundle(), target).reasons
    assert any("no such device has run" in reason.text and reason.mark == "unverified" for reason in reasons)


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("runtime", [None, "tensorrt", "torch_tensorrt", "onnxruntime", "openvino"])
def test_a_way_that_is_offered_passes_when_it_is_asked_for(
    make_bundle: MakeBundle, target: str, precision: str, runtime: Any
) -> None:
    result = ask(make_bundle(), target, precision, runtime=runtime)
    for way in (result.route, result.meanwhile):
        if way is not None and not way.needs:
            assert ask(make_bundle(), target, way.precision, way.tensorrt, way.runtime).ok


@pytest.mark.parametrize(
    "options, message",
    [
        (CheckOptions("int4"), "Unknown precision 'int4'; known: int8, fp16, fp32"),  # type: ignore[arg-type]
        (CheckOptions(runtime="tflite"), "Unknown runtime 'tflite'; known: tensorrt"),
        (CheckOptions(tensorrt="ten"), "'ten' is not a version"),
        (CheckOptions(tensorrt="10"), "TensorRT 10 is too vague"),
    ],
)
def test_bad_options_are_one_message(make_bundle: MakeBundle, options: CheckOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_bundle(make_bundle(), "ada", options)


@pytest.mark.parametrize(
    "target, runtime, title",
    [
        ("jetson-orin-nx", "onnxruntime-cuda", "ONNX Runtime with CUDA"),
        ("jetson-orin-nx", "onnxruntime-tensorrt", "ONNX Runtime with TensorRT"),
        ("ada", "openvino", "OpenVINO"),
        ("arm64", None, "ONNX Runtime"),
    ],
)
def test_a_version_of_tensorrt_that_nothing_would_be_checked_for_is_refused(
    make_bundle: MakeBundle, target: str, runtime: Any, title: str
) -> None:
    message = f"10.3 was asked for, but {title} .*: leave it out, or name runtime tensorrt or torch_tensorrt"
    with pytest.raises(ConfigError, match=message):
        check_bundle(make_bundle(), target, CheckOptions(tensorrt="10.3", runtime=runtime))


def test_unknown_target_is_one_message(make_bundle: MakeBundle) -> None:
    with pytest.raises(ConfigError, match="jetson-orin-nano"):
        check(make_bundle(), "jetson-orin-nanno")


def test_report_of_a_no_has_sources_marks_and_the_way(make_bundle: MakeBundle) -> None:
    lines = "\n".join(describe_result(ask(make_bundle(), "gtx-1080-ti", "fp16")))
    assert lines.startswith("No: FP16 by TensorRT 8.6.1 on GTX 1080 Ti.")
    assert "[documented: TensorRT 8.x hardware and precision matrix: FP16 no]" in lines
    assert lines.endswith("Works instead: INT8 by TensorRT 8.6.1 from the tensorrt graph.")


def test_report_of_a_way_that_needs_another_bundle_lists_the_needs(make_bundle: MakeBundle) -> None:
    lines = describe_result(ask(make_bundle("cpu tensorrt", operators=["Mod"]), "jetson-nano"))
    start = lines.index("The way for this device: FP16 by TensorRT 8.2.1, once the bundle has")
    assert lines[start + 1] == "  - a float graph (`blendmask quantize --keep-float`)"
    assert "  - opset 13 or lower" in lines
    assert lines[-1] == "Until then: INT8 by ONNX Runtime from the cpu graph, on its CPU."


def test_every_target_is_listed_and_described_with_its_sources() -> None:
    lines = list_targets(TABLE)
    assert len(lines) == 1 + len(TABLE.targets)
    for target in TABLE.targets:
        text = " ".join(" ".join(describe_target(TABLE, target)).split())
        assert target.title in text
        assert target.install.source in text
        for advice in [*target.advice, *([target.int8] if target.int8 is not None else [])]:
            of = f" (of {', '.join(advice.runtimes)})" if advice.runtimes is not None else ""
            assert f"{advice.value}{of} [{advice.mark}: {advice.source}]" in text
        for row in TABLE.jetpacks_of(target):
            assert f"JetPack {row.title or row.name} " in text
            assert f"tensorrt {row.tensorrt.value} [{row.tensorrt.mark}: {row.tensorrt.source}]" in text


def test_a_path_and_plain_words_are_enough(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    asked = check(str(bundle.path), "jetson-orin-nx", precision="int8", tensorrt="10.3", runtime="torch-tensorrt")
    assert asked == check_bundle(bundle, "jetson-orin-nx", CheckOptions("int8", "10.3", "torch_tensorrt"))
    with pytest.raises(ConfigError, match="precision"):
        check(bundle, "jetson-orin-nx", precision="int4")


@pytest.mark.parametrize(
    "target, kind, words",
    [
        ("jetson-orin-nx", "ground", "SM 8.7 skips the zeros"),
        ("turing", "caution", "SM 7.5 has no sparse tensor cores"),
        ("x86-vnni", "caution", "gain nothing on a CPU"),
    ],
)
def test_sparse_weights_are_said_to_be_used_or_not(make_bundle: MakeBundle, target: str, kind: str, words: str) -> None:
    recipe = Recipe(name="edge-sparse", version="1", options={"sparsity": {"pattern": "2:4", "layers": 3}})
    (reason,) = [one for one in ask(make_bundle(manifest={"recipe": recipe}), target).reasons if "2:4" in one.text]
    assert (reason.kind, words in reason.text) == (kind, True)
    assert not any("2:4" in one.text for one in ask(make_bundle(), target).reasons)


@pytest.mark.parametrize(
    "target, runtime, precision, ok, text",
    [
        ("ada", "onnxruntime-cuda", "fp32", True, "built with CUDA 13.0, which the driver must support"),
        ("ada", "onnxruntime_cuda", "int8", True, "computes INT8 graphs in float32"),
        ("ada", "onnxruntime-tensorrt", "int8", True, "runs INT8 on tensor cores"),
        ("ada", "onnxruntime-cuda", "fp16", False, "does not run FP16"),
        ("gtx-1080-ti", "onnxruntime-cuda", "fp32", False, "the last that compiles for this GPU is 12.9"),
        ("jetson-orin-nx", "onnxruntime-tensorrt", "int8", True, "no onnxruntime-gpu for aarch64"),
        ("x86-vnni", "onnxruntime-cuda", "fp32", False, "needs an NVIDIA GPU"),
    ],
)
def test_onnxruntime_on_a_gpu_is_checked(
    make_bundle: MakeBundle, target: str, runtime: str, precision: str, ok: bool, text: str
) -> None:
    result = check_bundle(make_bundle(), target, CheckOptions(precision, runtime=runtime))
    assert result.ok is ok
    assert any(text in reason.text for reason in result.reasons)
    assert result.route is not None


@pytest.mark.parametrize("target", TABLE.targets, ids=lambda target: target.name)
@pytest.mark.parametrize("runtime", sorted(NAMES_OF_RUNTIMES))
def test_known_problems_of_another_runtime_are_left_out(make_bundle: MakeBundle, target: Any, runtime: str) -> None:
    told = {reason.text for reason in ask(make_bundle(), target.name, runtime=runtime).reasons}
    for advice in target.advice:
        assert set(advice.runtimes or NAMES_OF_RUNTIMES) <= NAMES_OF_RUNTIMES
        assert (advice.value in told) == (advice.runtimes is None or runtime in advice.runtimes)


@pytest.mark.parametrize("target", ["jetson-agx-orin", "jetson-orin-nano", "jetson-xavier", "turing", "a100", "rtx-30"])
def test_cuda_of_onnx_runtime_is_told_nothing_of_tensorrt(make_bundle: MakeBundle, target: str) -> None:
    told = ask(make_bundle(), target, runtime="onnxruntime-cuda").reasons
    assert not [reason.text for reason in told if "TensorRT" in reason.text or "layer dump" in reason.text]


@pytest.mark.parametrize("runtime", sorted(GPU_RUNTIMES))
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(GPUS)))
def test_a_runtime_of_gpus_is_told_nothing_of_a_cpu(make_bundle: MakeBundle, name: str, runtime: str) -> None:
    target: Any = TABLE.find(name)
    told = {reason.text for reason in ask(make_bundle(), name, runtime=runtime).reasons}
    assert told.isdisjoint([target.int8.value, *(advice.value for advice in target.advice)])


def test_openvino_on_arm_is_told_nothing_of_onnx_runtime(make_bundle: MakeBundle) -> None:
    told = ask(make_bundle(), "arm64", runtime="openvino").reasons
    assert not [reason.text for reason in told if "ONNX Runtime" in reason.text]
    assert any("dot-product" in reason.text for reason in ask(make_bundle(), "arm64").reasons)


@pytest.mark.parametrize("runtime", sorted(set(GPU_RUNTIMES) - {"tensorrt"}))
@pytest.mark.parametrize("target", ["jetson-orin-nx", "ada"])
def test_sparse_weights_gain_nothing_where_tensorrt_is_not_asked_to_look(
    make_bundle: MakeBundle, target: str, runtime: str
) -> None:
    recipe = Recipe(name="edge-sparse", version="1", options={"sparsity": {"pattern": "2:4", "layers": 3}})
    told = ask(make_bundle(manifest={"recipe": recipe}), target, runtime=runtime).reasons
    (reason,) = [one for one in told if "2:4" in one.text]
    assert (reason.kind, "only runtime tensorrt" in reason.text) == ("caution", True)


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_onnxruntime_that_fails_on_orin_is_named(make_bundle: MakeBundle, runtime: str) -> None:
    result = check_bundle(make_bundle(), "jetson-orin-nx", CheckOptions(runtime=runtime))
    assert any("1.22.0 fails at import" in reason.text for reason in result.reasons)
