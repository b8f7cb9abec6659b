"""Graphs that could read other files, run without end or take memory without bound are refused with the reason."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import pytest

from blendmask_edge import Bundle, BundleError
from blendmask_edge.bundle import Manifest, encode_manifest, write_bundle
from blendmask_edge.bundle.graph_check import MAX_DEPTH, check_graph
from blendmask_edge.bundle.onnx_file import MAX_ENTRIES, MAX_FIELDS, read_onnx_file
from blendmask_edge.bundle.operators.rules import RULES
from tests.sdk.small_bundles import build_graph

onnx = pytest.importorskip("onnx")
helper, kinds, array = onnx.helper, onnx.TensorProto, onnx.numpy_helper.from_array
make_node = helper.make_node


def model_of(
    nodes: Sequence[Any] = (), constants: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (), **changes: Any
) -> Any:
    """Return a model of an image of 8 x 8, constants and nodes."""
    image = helper.make_tensor_value_info("image", kinds.UINT8, [1, 8, 8, 3])
    values = [array(np.asarray(value), name) for name, value in (constants or {}).items()]
    results = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [image], results, values)
    settings = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8, **changes}
    return helper.make_model(graph, **settings)


def check(*nodes: Any, **constants: Any) -> None:
    check_graph(model_of(nodes, constants).SerializeToString())


def test_a_plain_graph_passes(tiny_graph: bytes) -> None:
    check_graph(tiny_graph)
    check(make_node("Relu", ["image"], ["a"], domain="ai.onnx"))


def tensor(external: bool = True) -> Any:
    """Return a tensor of ONNX, outside the file or in it."""
    made = array(np.zeros(4, np.float32), "w")
    if external:
        made.ClearField("raw_data")
        made.data_location = kinds.EXTERNAL
        made.external_data.add(key="location", value="/etc/passwd")
    return made


def external_graphs() -> Dict[str, Any]:
    """Return a model with an external tensor in each place that ONNX knows."""
    inner = onnx.GraphProto(name="body", initializer=[tensor()])
    sparse = onnx.SparseTensorProto(values=tensor(), dims=[4])
    attributes = {
        "attribute": {"t": tensor()},
        "list of tensors": {"tensors": [tensor(external=False), tensor()]},
        "subgraph": {"g": inner},
        "list of subgraphs": {"graphs": [inner]},
        "sparse attribute": {"sparse_tensor": sparse},
        "list of sparse tensors": {"sparse_tensors": [sparse]},
    }
    nodes = {
        where: onnx.NodeProto(op_type="Constant", attribute=[onnx.AttributeProto(name="value", **held)])
        for where, held in attributes.items()
    }
    return {
        **{where: onnx.ModelProto(graph=onnx.GraphProto(node=[node])) for where, node in nodes.items()},
        "initializer": onnx.ModelProto(graph=inner),
        "sparse initializer": onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse])),
        "function": onnx.ModelProto(functions=[onnx.FunctionProto(node=[nodes["attribute"]])]),
        "training": onnx.ModelProto(training_info=[onnx.TrainingInfoProto(initialization=inner)]),
    }


@pytest.mark.parametrize("where", external_graphs())
def test_graph_whose_tensors_lie_elsewhere_is_neither_read_nor_written(
    where: str, rewrite: Callable[..., Path], make_manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    graph = external_graphs()[where].SerializeToString()
    reason = r"it holds (a tensor in another file|functions|training|a graph inside|a sparse tensor|field 10 of Attr)"
    manifest = make_manifest({"cpu": graph})
    path = rewrite({"cpu.onnx": graph, "float.onnx": None, "manifest.json": encode_manifest(manifest)})
    with pytest.raises(BundleError, match=rf"cpu\.onnx is refused: {reason}"):
        Bundle.open(path).graph("cpu")
    with pytest.raises(BundleError, match=rf"'cpu' cannot go into a bundle: {reason}"):
        write_bundle(tmp_path / "b.bmz", manifest, {"cpu": graph})
    assert not (tmp_path / "b.bmz").exists()


def test_only_fields_of_the_reader_reach_a_tensor_or_a_graph() -> None:
    """Whatever ONNX adds is refused until it is known here."""
    known = {"graph", "node", "initializer", "attribute", "t", "metadata_props", "opset_import", "input", "output"}
    left_unread = {"value_info", "quantization_annotation"}
    model = onnx.load_from_string(build_graph())
    for message in (model, model.graph, model.graph.node[0], onnx.AttributeProto(), model.graph.initializer[0]):
        nested = [field for field in message.DESCRIPTOR.fields if field.message_type is not None]
        for field in nested:
            if field.name in known | left_unread or field.name in ("type",):
                continue
            key = bytes([field.number << 3 & 0x7F | 2 | (0x80 if field.number > 15 else 0)])
            key += bytes([field.number >> 4]) if field.number > 15 else b""
            with pytest.raises(BundleError, match="which no exported graph does"):
                read_onnx_file(within(message.DESCRIPTOR.name, key + b"\x00"))


def within(kind: str, content: bytes) -> bytes:
    """Return a model that holds a message of this kind and content."""
    ways = {
        "ModelProto": [], "GraphProto": [7], "NodeProto": [1, 7], "AttributeProto": [5, 1, 7], "TensorProto": [5, 7],
    }  # fmt: skip
    return enclosed(content, *ways[kind])


def enclosed(content: bytes, *numbers: int) -> bytes:
    """Put bytes into a message inside of messages, the outermost number last."""
    for number in numbers:
        content = varint(number << 3 | 2) + varint(len(content)) + content
    return content


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize(
    "data", [b"not a graph", b"\x3a\x7f", b"\x3b", b"\x3a", b"\xff" * 20, b"<?xml version='1.0'?>"]
)
def test_bytes_that_are_no_onnx_file_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_graph(data)


@pytest.mark.parametrize("data", [b"", b"\x08\x08", b"\x3a\x00"])
def test_a_file_without_versions_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"ONNX opset 0, this release reads 13 to 17"):
        check_graph(data)


def test_a_field_that_occurs_twice_is_refused() -> None:
    """Parsers merge the two, or keep the last."""
    sound = model_of([make_node("Relu", ["image"], ["a"])]).SerializeToString()
    with pytest.raises(BundleError, match="ModelProto has field 7 twice"):
        check_graph(sound + within("GraphProto", within("NodeProto", b"")[2:]))
    with pytest.raises(BundleError, match="ModelProto has field 1 twice"):
        check_graph(sound + b"\x08\x08")


def test_a_field_in_another_wire_type_is_refused() -> None:
    """Parsers pass over it as unknown."""
    with pytest.raises(BundleError, match="field 7 of ModelProto"):
        check_graph(b"\x38\x01")


@pytest.mark.parametrize("opset, ir", [(12, 8), (18, 8), (17, 6), (17, 9), (2**40, 8)])
def test_versions_that_are_not_known_are_refused(opset: int, ir: int) -> None:
    model = model_of(opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    with pytest.raises(BundleError, match=r"has ONNX (opset|IR version) \d+, this release reads"):
        check_graph(model.SerializeToString())


def test_other_domains_are_refused() -> None:
    with pytest.raises(BundleError, match="another domain"):
        check(make_node("Relu", ["image"], ["a"], domain="com.microsoft"))
    imports = [helper.make_opsetid(name, 17) for name in ("", "com.microsoft")]
    with pytest.raises(BundleError, match="operators of 2 domains"):
        check_graph(model_of(opset_imports=imports).SerializeToString())


@pytest.mark.parametrize(
    "operator",
    ["Loop", "If", "Scan", "SequenceMap", "ConstantOfShape", "Range", "RandomNormal", "NonZero", "OneHot", "Einsum",
     "EyeLike", "StringNormalizer", "Optional", "NonMaxSuppression", "Relu6", ""],
)  # fmt: skip
def test_operators_that_no_exported_graph_has_are_refused(operator: str) -> None:
    with pytest.raises(BundleError, match=f"the operator '{operator}'"):
        check(make_node(operator, ["image"], ["a"]))


def doubled(operator: str, times: int, **attributes: Any) -> List[Any]:
    """Return a chain in which each operator reads the result of the last one twice."""
    names = ["image", *(f"t{number}" for number in range(times))]
    return [make_node(operator, [a, a], [b], **attributes) for a, b in zip(names, names[1:])]


FLOATS = np.ones((1, 1 << 14), np.float32)
ATTACKS: Dict[str, Any] = {
    "Expand": ([make_node("Expand", ["x", "sizes"], ["a"])], {"x": np.float32(1), "sizes": [2_000_000_000]}),
    "Expand to a range": ([make_node("Expand", ["x", "sizes"], ["a"])], {"x": np.float32(1), "sizes": [1 << 20] * 4}),
    "Tile": ([make_node("Tile", ["x", "n"], ["a"])], {"x": FLOATS, "n": [1, 1 << 20]}),
    "Reshape": ([make_node("Reshape", ["x", "n"], ["a"], allowzero=1)],
                {"x": np.ones(0, np.float32), "n": [0, 1 << 40]}),
    "Concat": (doubled("Concat", 60, axis=0), {}),
    "outer product": ([make_node("MatMul", ["x", "y"], ["a"])], {"x": FLOATS.T, "y": FLOATS}),
    "outer sum": ([make_node("Add", ["x", "y"], ["a"])], {"x": FLOATS.T, "y": FLOATS}),
    "Resize": ([make_node("Resize", ["x", "", "n"], ["a"])], {"x": FLOATS, "n": np.array([9e8, 1], np.float32)}),
    "Pad": ([make_node("Pad", ["x", "n"], ["a"])], {"x": FLOATS, "n": [0, 0, 0, 1 << 40]}),
    "Conv": ([make_node("Conv", ["x", "w"], ["a"], pads=[1 << 40, 0, 0, 0])],
             {"x": np.ones((1, 1, 8, 8), np.float32), "w": np.ones((1, 1, 1, 1), np.float32)}),
    "windows": ([make_node("Conv", ["x", "w"], ["a"], pads=[99] * 4)],
                {"x": np.ones((1, 4, 300, 300), np.float32), "w": np.ones((1, 4, 99, 99), np.float32)}),
    "MaxPool": ([make_node("MaxPool", ["x"], ["a"], kernel_shape=[1, 1], pads=[0, 1 << 40, 0, 0])],
                {"x": np.ones((1, 1, 8, 8), np.float32)}),
    "Gather": ([make_node("Gather", ["x", "i"], ["a"], axis=0)], {"x": FLOATS, "i": np.zeros(1 << 16, np.int64)}),
    "work": ([make_node("MatMul", ["x", "x"], [f"a{i}"]) for i in range(300)],
             {"x": np.ones((1 << 10, 1 << 10), np.float32)}),
    "many at once": ([*(make_node("Expand", ["x", "n"], [f"a{i}"]) for i in range(10)),
                      make_node("Concat", [f"a{i}" for i in range(10)], ["b"], axis=0)],
                     {"x": np.float32(1), "n": [1 << 23]}),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_tensors_that_grow_without_bound_are_refused(attack: str) -> None:
    nodes, constants = ATTACKS[attack]
    with pytest.raises(BundleError, match=r"may (hold|copy) more than \d+ elements|takes more than \d+ operations"):
        check(*nodes, **constants)


def test_sizes_that_the_image_decides_are_refused_unless_their_range_is_known() -> None:
    """Of the rows that hold a detection there are at most as many as there are rows; any other size may be anything."""
    cast = make_node("Cast", ["image"], ["n"], to=kinds.INT64)
    total = make_node("ReduceSum", ["n"], ["total"], keepdims=0)
    flat = make_node("Reshape", ["total", "one"], ["size"])
    expand = make_node("Expand", ["x", "size"], ["a"])
    with pytest.raises(BundleError, match=r"Expand, cannot be bounded: .* not known before it runs"):
        check(cast, total, flat, expand, one=[1], x=np.float32(1))
    true = make_node("Greater", ["image", "x"], ["seen"])
    cast = make_node("Cast", ["seen"], ["n"], to=kinds.INT64)
    check(true, cast, total, flat, expand, one=[1], x=np.uint8(1))


def test_tensors_that_are_used_up_do_not_count() -> None:
    """Each of a hundred takes a quarter of what may exist at once."""
    chain = [make_node("Relu", [f"a{i}"], [f"a{i + 1}"]) for i in range(100)]
    check(make_node("Expand", ["x", "n"], ["a0"]), *chain, x=np.float32(1), n=[1 << 24])


def stating(shape: Sequence[int], dtype: int = kinds.FLOAT, **held: Any) -> Any:
    return onnx.TensorProto(name="w", dims=shape, data_type=dtype, **held)


@pytest.mark.parametrize(
    "held",
    [
        stating([2**31], raw_data=b"\0" * 8),
        stating([2], raw_data=b"\0" * 7),
        stating([-1, -2], raw_data=b"\0" * 8),
        stating([3], float_data=[1, 2]),
        stating([3], kinds.INT64, int64_data=[1, 2]),
        stating([3], kinds.INT8, int32_data=[1, 2]),
        stating([2], kinds.FLOAT, int64_data=[1, 2]),
        stating([1], kinds.FLOAT, raw_data=b"\0" * 4, float_data=[1]),
        stating([1], kinds.STRING, string_data=[b"a"]),
        stating([1], kinds.DOUBLE, raw_data=b"\0" * 8),
        stating([1], 99, raw_data=b"\0" * 8),
        stating([1], kinds.FLOAT, raw_data=b"\0" * 4, segment=onnx.TensorProto.Segment(begin=0, end=1)),
    ],
    ids=lambda held: str(held).replace("\n", " "),
)
def test_tensor_whose_bytes_are_not_those_of_its_shape_is_refused(held: Any) -> None:
    model = model_of()
    model.graph.initializer.append(held)
    with pytest.raises(BundleError, match=r"tensor .*does not hold|tensor holds|which no exported graph"):
        check_graph(model.SerializeToString())
    node = make_node("Constant", [], ["a"])
    node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=held))
    with pytest.raises(BundleError):
        check(node)


@pytest.mark.parametrize("packed", [b"\x80", b"\x01\x80"])
def test_packed_numbers_that_do_not_end_are_refused(packed: bytes) -> None:
    content = b"\x08\x02\x10\x07\x3a" + varint(len(packed)) + packed + b"\x42\x01w"
    model = model_of().SerializeToString()
    graph = onnx.load_from_string(model).graph.SerializeToString() + b"\x2a" + varint(len(content)) + content
    with pytest.raises(BundleError, match="the tensor 'w'"):
        check_graph(b"\x08\x08\x42\x02\x10\x11\x3a" + varint(len(graph)) + graph)


def test_names_that_are_missing_or_doubled_are_refused() -> None:
    for nodes, reason in [
        ([make_node("Relu", ["b"], ["a"])], "nothing makes the tensor 'b'"),
        ([make_node("Relu", ["image"], ["image"])], "two tensors have the name 'image'"),
        ([make_node("Relu", ["image"], ["a"]), make_node("Relu", ["image"], ["a"])], "two tensors have the name 'a'"),
    ]:
        with pytest.raises(BundleError, match=reason):
            check(*nodes)
    with pytest.raises(BundleError, match="nothing makes the tensor 'boxes'"):
        check_graph(model_of(outputs=["boxes"]).SerializeToString())


@pytest.mark.parametrize("dtype", [kinds.STRING, kinds.DOUBLE, kinds.COMPLEX128, 0, 99])
def test_types_that_no_exported_graph_has_are_refused(dtype: int) -> None:
    with pytest.raises(BundleError, match=f"casts to type {dtype}"):
        check(make_node("Cast", ["image"], ["a"], to=dtype))
    model = model_of()
    model.graph.input[0].type.tensor_type.elem_type = dtype
    with pytest.raises(BundleError, match=f"its input 'image' has the type {dtype}"):
        check_graph(model.SerializeToString())


def test_names_are_bounded() -> None:
    check(make_node("Relu", ["image"], ["x" * 4096]))
    for node in (make_node("Relu", ["image"], ["x" * 4097]), make_node("R" * 4097, ["image"], ["x"])):
        with pytest.raises(BundleError, match="a name has 4097 bytes, at most 4096"):
            check(node)


@pytest.mark.parametrize("shape", [None, [1, "height", 8, 3], [1, 0, 8, 3], [1, -8, 8, 3]])
def test_input_without_a_fixed_shape_is_refused(shape: Any) -> None:
    model = model_of()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kinds.UINT8, shape))
    with pytest.raises(BundleError, match="its input 'image' has no fixed shape"):
        check_graph(model.SerializeToString())


def test_deep_and_long_graphs_are_refused() -> None:
    names = ["image", *(f"t{number}" for number in range(MAX_DEPTH + 1))]
    chain = [make_node("Relu", [a], [b]) for a, b in zip(names, names[1:])]
    check(*chain[:MAX_DEPTH])
    with pytest.raises(BundleError, match=f"deeper than {MAX_DEPTH}"):
        check(*chain)
    with pytest.raises(BundleError, match=f"more than {MAX_ENTRIES} entries"):
        check_graph(within("GraphProto", b"\x0a\x00" * (MAX_ENTRIES + 1)))


@pytest.mark.parametrize("operator", RULES)
@pytest.mark.parametrize(
    "inputs", [[], [""], ["image"], ["image"] * 2, ["image"] * 4, ["image", "list", "list", "list"]]
)
def test_operators_with_other_inputs_than_they_need_are_bounded_or_refused(operator: str, inputs: List[str]) -> None:
    """What no runtime takes may pass here, but never with an error that is not ours."""
    with contextlib.suppress(BundleError):
        check(make_node(operator, inputs, ["a"]), list=[0, 1, -1, 7])


@pytest.mark.parametrize("kind", ["i", "f", "s", "ints", "floats", "t"])
@pytest.mark.parametrize(
    "operator, name",
    [("Cast", "to"), ("Concat", "axis"), ("Conv", "strides"), ("Transpose", "perm"), ("Constant", "value"),
     ("MaxPool", "kernel_shape"), ("Conv", "pads"), ("Unsqueeze", "axes"), ("Gemm", "transA")],
)  # fmt: skip
def test_attributes_of_another_type_are_bounded_or_refused(operator: str, name: str, kind: str) -> None:
    values = {"i": 2**62, "f": 1e30, "s": b"x", "ints": [-1, 0, 2**62], "floats": [1e30], "t": tensor(external=False)}
    node = make_node(operator, ["image", "image"], ["a"])
    node.attribute.append(onnx.AttributeProto(name=name, **{kind: values[kind]}))
    with contextlib.suppress(BundleError):
        check(node)


@pytest.mark.parametrize("kind, key", [("ModelProto", 7), ("ModelProto", 8), ("GraphProto", 1), ("NodeProto", 5)])
def test_graph_of_millions_of_empty_messages_is_refused_before_they_are_kept(kind: str, key: int) -> None:
    graph = within(kind, bytes([key << 3 | 2, 0]) * (8 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"more than|twice"):
            check_graph(graph)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_fields_of_all_messages_together_are_bounded() -> None:
    node = b"".join(b"\x0a\x00" for _ in range(2 * MAX_FIELDS // MAX_ENTRIES))
    nodes = (b"\x0a" + varint(len(node)) + node) * (MAX_ENTRIES - 1)
    with pytest.raises(BundleError, match=f"more than {MAX_FIELDS} fields"):
        check_graph(within("GraphProto", nodes))


def test_values_are_read_however_they_are_stored() -> None:
    for kind, values in {"INT64": [-3, 2**40], "INT32": [-3, 7], "UINT8": [0, 255], "FLOAT16": [0.5, -2]}.items():
        stored = helper.make_tensor("w", getattr(kinds, kind), [2], values)
        raw = array(onnx.numpy_helper.to_array(stored), "w")
        for form in (stored, raw):
            model = model_of()
            model.graph.initializer.append(form)
            (found,) = read_onnx_file(model.SerializeToString()).constants
            assert list(found.values()) == values
    floats = helper.make_tensor("w", kinds.FLOAT, [2], [0.5, -2])
    model = model_of()
    model.graph.initializer.append(floats)
    assert read_onnx_file(model.SerializeToString()).constants[0].values() == (0.5, -2)
    assert struct.pack("<2f", 0.5, -2) == onnx.numpy_helper.to_array(floats).tobytes()


@pytest.mark.parametrize("place", [
    (14,), (13, 7), (2, 13, 7), (1, 2, 13, 7), (14, 7), (2, 14, 7), (16, 7), (9, 1, 7), (16, 5, 7), (4, 11, 7),
    (4, 13, 7),
], ids=str)  # fmt: skip
def test_messages_that_are_not_used_must_be_sound_too(place: Sequence[int]) -> None:
    """A runtime reads them: names and types of inner tensors, annotations of quantization, properties."""
    sound, broken = (enclosed(content, *place) for content in (b"", b"\x0b\x0b"))
    read_onnx_file(sound)
    with pytest.raises(BundleError, match="field type 3"):
        read_onnx_file(broken)
