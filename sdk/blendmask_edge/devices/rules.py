"""The rules of the preflight check: each checks one thing and yields its findings.

A rule reads its facts from the table; none holds a version or a device of its own.
"""

from __future__ import annotations

from typing import Callable, Iterator, Optional, Tuple

from blendmask_edge.devices.case import GPU_RUNTIMES, ONNXRUNTIME_GPU, Case
from blendmask_edge.devices.reasons import Read, Sourced, caution, ground, refusal
from blendmask_edge.devices.result import RUNTIME_TITLES, Reason
from blendmask_edge.devices.table import (
    JetPack,
    Operator,
    Parser,
)
from blendmask_edge.runtimes.tensorrt.arguments import WEAK_TYPING_LAST
from blendmask_edge.runtimes.tensorrt.versions import Version


def runtime_fits(case: Case) -> Iterator[Reason]:
    """TensorRT needs an NVIDIA GPU; what runs on the CPU of a GPU target is not in the table."""
    if case.target.kind == "cpu" and case.runtime in GPU_RUNTIMES:
        yield refusal(f"{RUNTIME_TITLES[case.runtime]} needs an NVIDIA GPU", case.target.install)
    if case.target.kind != "cpu" and case.runtime not in GPU_RUNTIMES:
        text = f"{RUNTIME_TITLES[case.runtime]} runs on the CPU of this device, of which the table knows nothing"
        yield caution(text, Read("no source named", "unverified"))


def variant_is_held(case: Case) -> Iterator[Reason]:
    """The bundle must hold the graph that runtime and precision take."""
    if case.variant is None and case.runtime not in GPU_RUNTIMES:
        text = f"no graph of a bundle is {case.precision.upper()} on a CPU"
        yield refusal(text, Read("bundle format"))
    elif case.variant is None and case.runtime in ONNXRUNTIME_GPU:
        text = f"{RUNTIME_TITLES[case.runtime]} does not run {case.precision.upper()} here"
        yield refusal(text, Read("runtimes of this package"))
    elif case.variant is None:
        text = "no graph of a bundle is FP16, which a program of Torch-TensorRT would have to be made from"
        yield refusal(text, Read("bundle format"))
    elif not case.holds_variant:
        graphs = ", ".join(sorted(case.manifest.graphs))
        option = "`blendmask quantize --keep-float`" if case.variant == "float" else "`blendmask quantize`"
        text = f"this takes the {case.variant} graph; the bundle holds: {graphs}"
        yield refusal(text, Read("manifest of the bundle"), needs=f"a {case.variant} graph ({option})")


def int8_path(case: Case) -> Iterator[Reason]:
    """INT8 needs dp4a or tensor cores."""
    if case.architecture is not None and case.precision == "int8" and case.runtime != "onnxruntime-cuda":
        fact = case.architecture.int8
        if fact.value == "none":
            yield refusal(f"SM {case.architecture.sm} has no INT8 path, so INT8 engines do not help", fact)
        else:
            yield ground(f"SM {case.architecture.sm} runs INT8 on {fact.value}", fact)


def fp16_is_fast(case: Case) -> Iterator[Reason]:
    """FP16 must be faster than FP32 to be worth asking for."""
    if case.architecture is not None and case.precision == "fp16":
        fact, rate = case.architecture.fp16, case.architecture.fp16_rate
        if fact.value == "slow":
            yield refusal(f"SM {case.architecture.sm} has no fast FP16", fact)
            if rate is not None:
                yield refusal(f"its FP16 rate is {rate.value}", rate)
        else:
            yield ground(f"SM {case.architecture.sm} runs FP16: {fact.value}", fact)


def tensorrt_knows_the_gpu(case: Case) -> Iterator[Reason]:
    """The version must lie between the first and the last that build for the target."""
    if case.tensorrt is None:
        return
    first, last, seen = case.target.tensorrt_first, case.target.tensorrt_last, case.target.tensorrt_seen
    if last is not None and not case.tensorrt.up_to(Version.parse(last.value)):
        yield refusal(f"TensorRT {case.tensorrt} does not build for it; the last that does is {last.value}", last)
    elif first is not None and not case.tensorrt.at_least(Version.parse(first.value)):
        yield refusal(f"TensorRT {case.tensorrt} does not know it yet; the first that does is {first.value}", first)
    elif seen is not None and not case.tensorrt.up_to(Version.parse(seen.value)):
        yield caution(f"whether TensorRT {case.tensorrt} still builds for it was not looked at", seen)


def jetpack_carries_tensorrt(case: Case) -> Iterator[Reason]:
    """On a Jetson TensorRT comes with JetPack, so one of its lines must carry the version."""
    rows = case.table.jetpacks_of(case.target)
    if case.tensorrt is None or not rows:
        return
    first = case.table.limits.jetpack_first_11
    if case.tensorrt.at_least(Version((11,))) and not case.tensorrt.at_least(Version.parse(first.value)):
        yield refusal(f"TensorRT {case.tensorrt} is not for JetPack; of 11 the first is {first.value}", first)
    elif case.jetpack is None:
        older = [row for row in rows if case.tensorrt.at_least(Version.parse(row.tensorrt.value))]
        lines = ", ".join(f"{_span(row)} in {row.title or row.name}" for row in rows)
        nearest = (older or rows[:1])[-1]
        fact = nearest.tensorrt_last or nearest.tensorrt
        yield refusal(f"no JetPack for it carries TensorRT {case.tensorrt}: {lines}", fact)
    else:
        row = case.jetpack
        is_shipped = row.tensorrt_last is None or case.tensorrt.same_release(Version.parse(row.tensorrt.value))
        text = f"TensorRT {case.tensorrt} goes with JetPack {row.title or row.name}"
        yield ground(text, row.tensorrt if is_shipped else row.tensorrt_last or row.tensorrt)


def jetpack_python_is_new_enough(case: Case) -> Iterator[Reason]:
    """TensorRT's bindings are those of JetPack's Python, which this package must run on."""
    python = case.jetpack.python if case.jetpack is not None else None
    least = case.table.limits.python.value
    if python is not None and not Version.parse(python.value).at_least(Version.parse(least)):
        yield caution(f"its TensorRT is bound to Python {python.value}; this package needs {least} or newer", python)


def opset_is_parsed(case: Case) -> Iterator[Reason]:
    """The graph's opset must lie within the parser's cap."""
    if case.facts is None or case.tensorrt is None or case.runtime != "tensorrt":
        return
    cap = _opset_cap(case, case.tensorrt)
    if cap is None:
        return
    opset, source, is_exact = cap
    if case.facts.opset <= opset:
        yield ground(f"the parser reads opset {opset}, the graph has {case.facts.opset}", source)
    elif is_exact and source.mark != "unverified":
        text = f"the parser of TensorRT {case.tensorrt} reads opset {opset} at most, the graph has {case.facts.opset}"
        yield refusal(text, source, needs=f"opset {opset} or lower")
    else:
        yield caution(f"opset {opset} is known to be parsed, of {case.facts.opset} nothing is known", source)


def operators_are_built(case: Case) -> Iterator[Reason]:
    """Each operator of the graph must be one that this version builds."""
    if case.facts is None or case.tensorrt is None:
        return
    for row in case.table.operators:
        if row.runtime == case.runtime and row.operator in case.facts.operators and _holds(row, case.tensorrt):
            text = f"{row.finding}; the graph has {case.facts.operators[row.operator]}"
            needs = f"{row.instead} in place of {row.operator}" if row.instead else f"no {row.operator}"
            yield Reason(row.effect, text, row.source, row.mark, needs if row.effect == "refusal" else None)


def uint8_input_is_cast(case: Case) -> Iterator[Reason]:
    """TensorRT takes a uint8 input, but computes nothing on it."""
    if case.facts is None or case.tensorrt is None:
        return
    rows = [row for row in case.table.operators if row.operator == "Input(uint8)"]
    if any(_holds(row, case.tensorrt) for row in rows):
        return  # no uint8 input at all: `operators_are_built` says so
    fact = case.table.limits.uint8
    for operator in sorted(case.facts.uint8_readers - {"Cast"}):
        yield refusal(f"{fact.value}; here {operator} reads it", fact, needs="a Cast before all else on its input")


def plugins_are_absent(case: Case) -> Iterator[Reason]:
    """An operator outside the ONNX standard is a plugin, which one version has and the next has not."""
    if case.runtime == "tensorrt" and case.facts is not None:
        for name in sorted(case.facts.custom):
            plugins = case.table.limits.plugins
            yield caution(f"{name} is not an ONNX operator and needs a plugin; {plugins.value}", plugins)


def top_k_is_small(case: Case) -> Iterator[Reason]:
    """K of a TopK has a limit that shows at build, not at parse."""
    limit = case.table.limits.top_k
    largest = case.facts.largest_top_k if case.facts is not None and case.tensorrt is not None else None
    if largest is not None and largest > limit.value:
        text = f"TopK takes K up to {limit.value}, the graph has {largest}"
        yield refusal(text, limit, needs=f"TopK with K up to {limit.value}")


def quantization_is_symmetric(case: Case) -> Iterator[Reason]:
    """TensorRT takes int8 with zero point 0 and float biases only."""
    if case.facts is None or case.tensorrt is None or not case.holds_variant:
        return
    other = sorted(case.facts.zero_points - {"int8"})
    if other:
        fact = case.table.limits.zero_point
        text = f"{fact.value}; the graph has zero points that are {', '.join(other)}"
        yield refusal(text, fact, needs="symmetric int8 pairs")
    if case.facts.int32_dequantized:
        yield refusal(case.table.limits.int32_bias.value, case.table.limits.int32_bias, needs="float biases")


def remainder_is_half(case: Case) -> Iterator[Reason]:
    """Float layers run in FP16 by a flag up to TensorRT 10, from 11 on by casts that `compile` puts into the graph."""
    if case.runtime != "tensorrt" or case.tensorrt is None or case.facts is None or case.precision == "fp32":
        return
    limits = case.table.limits
    takes_flags = case.tensorrt.up_to(Version.parse(WEAK_TYPING_LAST.value))
    if (
        takes_flags
        and case.precision == "int8"
        and case.architecture is not None
        and case.architecture.fp16.value != "slow"
    ):
        yield ground(limits.fp16_beside_int8.value, limits.fp16_beside_int8)
    if not takes_flags and case.precision == "int8":
        yield ground(limits.implicit_int8.value, limits.implicit_int8)
    is_slow = case.architecture is not None and case.architecture.fp16.value == "slow"
    if not takes_flags and not case.facts.holds_half and not is_slow:
        yield ground(limits.half_by_casts.value, limits.half_by_casts)


def torch_tensorrt_is_pinned(case: Case) -> Iterator[Reason]:
    """One release of Torch-TensorRT goes with one TensorRT, and not every device has one."""
    if case.runtime != "torch_tensorrt":
        return
    named = case.target.torch_tensorrt
    if case.release is not None and case.tensorrt is not None:
        row = case.release
        text = f"Torch-TensorRT {row.version} goes with torch {row.torch}, TensorRT {case.tensorrt}, CUDA {row.cuda}"
        yield ground(f"{text}, Python {row.python} or newer", row)
    elif named is not None:
        text = f"no Torch-TensorRT for it goes with TensorRT {case.tensorrt}; the release to use is {named.value}"
        yield refusal(text, named)
    else:
        yield refusal("no Torch-TensorRT is known for it", Read("no source names a release", "unverified"))


def torch_tensorrt_quantizes(case: Case) -> Iterator[Reason]:
    """Explicit INT8 needs a release that converts it; FP16 needs a half module where no flag asks for it."""
    if case.release is None:
        return
    if case.precision == "int8" and not case.release.quantizes:
        text = f"Torch-TensorRT {case.release.version} does not convert explicit INT8: {case.release.note}"
        yield refusal(text, case.release)
    if case.precision == "fp16" and case.release.typed is not None:
        yield caution(case.release.typed.value, case.release.typed)


def sparsity_is_used(case: Case) -> Iterator[Reason]:
    """2:4 sparse weights are faster only on GPUs that skip the zeros, where TensorRT is asked to look for them."""
    sparsity = case.manifest.recipe.options.get("sparsity")
    if not sparsity or case.precision != "int8":
        return
    architecture = case.architecture if case.runtime in GPU_RUNTIMES else None
    if architecture is None:
        text = "the 2:4 sparse weights gain nothing on a CPU, which multiplies by the zeros"
        yield caution(text, Read("general knowledge", "unverified"))
    elif architecture.sparsity.value and case.runtime != "tensorrt":
        text = f"{RUNTIME_TITLES[case.runtime]} is not asked to look for 2:4 sparse weights; only runtime tensorrt is"
        yield caution(text, Read("runtimes of this package"))
    elif architecture.sparsity.value:
        yield ground(f"SM {architecture.sm} skips the zeros of the 2:4 sparse weights", architecture.sparsity)
    else:
        text = f"SM {architecture.sm} has no sparse tensor cores (Ampere and later do): 2:4 sparse weights gain nothing"
        yield caution(text, architecture.sparsity)


def cpu_runs_int8(case: Case) -> Iterator[Reason]:
    """CPUs differ in what INT8 costs and whether it saturates."""
    fact = case.target.int8
    if fact is not None and case.precision == "int8" and fact.is_of(case.runtime):
        kind = ground if fact.mark == "verified" else caution
        yield kind(fact.value, fact)


def accuracy_was_measured(case: Case) -> Iterator[Reason]:
    """A graph should carry its own measured accuracy."""
    if case.holds_variant and not case.manifest.metrics.get(str(case.variant)):
        text = f"the bundle carries no measured accuracy of its {case.variant} graph"
        yield caution(text, Read("manifest of the bundle"))


def onnxruntime_gpu_fits(case: Case) -> Iterator[Reason]:
    """The package for GPUs is built with one CUDA, which must compile for the target."""
    if case.runtime not in ONNXRUNTIME_GPU or case.target.kind == "cpu":
        return
    built, last = case.table.limits.onnxruntime_gpu_cuda, case.target.cuda_last
    if case.target.kind == "jetson":
        yield caution(case.table.limits.onnxruntime_gpu_jetson.value, case.table.limits.onnxruntime_gpu_jetson)
    elif last is not None and not Version.parse(last.value).at_least(Version.parse(built.value)):
        text = f"onnxruntime-gpu is built with CUDA {built.value}; the last that compiles for this GPU is {last.value}"
        yield refusal(text, built)
    else:
        yield ground(f"onnxruntime-gpu is built with CUDA {built.value}, which the driver must support", built)
    if case.runtime == "onnxruntime-cuda" and case.precision == "int8":
        yield caution("the CUDA provider computes INT8 graphs in float32, rounding between", Read("provider options"))


def onnxruntime_starts(case: Case) -> Iterator[Reason]:
    """One release of ONNX Runtime fails at import on Orin."""
    if case.runtime.startswith("onnxruntime") and case.target.family == "orin":
        yield caution(case.table.limits.onnxruntime_on_orin.value, case.table.limits.onnxruntime_on_orin)


def graph_is_counted(case: Case) -> Iterator[Reason]:
    """How large the graph is."""
    if case.holds_variant and case.facts is not None:
        nodes = sum(count for name, count in case.facts.operators.items() if not name.startswith("Input("))
        megabytes = case.facts.weight_bytes / 1e6
        text = f"the {case.variant} graph has {nodes} operators and {megabytes:.1f} MB of weights"
        yield ground(text, Read("graph of the bundle"))


def advice_is_given(case: Case) -> Iterator[Reason]:
    """Return the known problems of the target with this runtime."""
    if case.precision == "int8":
        for advice in case.target.advice:
            if advice.is_of(case.runtime):
                yield caution(advice.value, advice)


def device_has_reported(case: Case) -> Iterator[Reason]:
    """Where no device has run an engine of this release, the check says so."""
    if case.runtime in GPU_RUNTIMES:
        yield caution(case.table.limits.device_report.value, case.table.limits.device_report)


Rule = Callable[[Case], Iterator[Reason]]
RULES: Tuple[Rule, ...] = (
    runtime_fits,
    int8_path,
    fp16_is_fast,
    tensorrt_knows_the_gpu,
    jetpack_carries_tensorrt,
    torch_tensorrt_is_pinned,
    torch_tensorrt_quantizes,
    variant_is_held,
    opset_is_parsed,
    operators_are_built,
    uint8_input_is_cast,
    plugins_are_absent,
    top_k_is_small,
    quantization_is_symmetric,
    remainder_is_half,
    sparsity_is_used,
    cpu_runs_int8,
    jetpack_python_is_new_enough,
    accuracy_was_measured,
    onnxruntime_gpu_fits,
    onnxruntime_starts,
    graph_is_counted,
    advice_is_given,
    device_has_reported,
)


def apply_rules(case: Case) -> Tuple[Reason, ...]:
    """Apply every rule; refusals first, then cautions, then grounds."""
    order = ("refusal", "caution", "ground")
    reasons = [reason for rule in RULES for reason in rule(case)]
    return tuple(sorted(reasons, key=lambda reason: order.index(reason.kind)))


def _opset_cap(case: Case, version: Version) -> Optional[Tuple[int, Sourced, bool]]:
    """Return the highest opset, its source, and whether it is the cap or only known to be reached."""
    if case.jetpack is not None and case.jetpack.opset is not None:
        return case.jetpack.opset.value, case.jetpack.opset, True
    reached = [row for row in case.table.parsers if version.at_least(Version.parse(row.first))]
    if not reached:
        return None
    row: Parser = reached[-1]
    return row.opset, row, version.up_to(Version.parse(row.last))


def _span(row: JetPack) -> str:
    return row.tensorrt.value + (f" to {row.tensorrt_last.value}" if row.tensorrt_last is not None else "")


def _holds(row: Operator, version: Version) -> bool:
    since = row.since is None or version.at_least(Version.parse(row.since))
    return since and (row.before is None or not version.at_least(Version.parse(row.before)))
