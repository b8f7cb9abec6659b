"""The manifest of a bundle: what the graphs are, what they expect, how they were made and how good they are.

Readers ignore fields they do not know, so fields may be added within one schema version; a change that an older reader
would misunderstand raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Dict, List, Optional, Tuple

import msgspec

from blendmask_edge.errors import BundleError

SCHEMA_VERSION = 3
OLDEST_SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_SIDE = 16384
DEFAULT_DISPLAY_THRESHOLD = 0.5
MAX_VALUES = 2**15
"""Values of a manifest, as many as there are commas and brackets: each takes some hundred bytes once it is read."""
MAX_TEXT = 2**14
"""Characters of one text, a name of a field too."""
MAX_DEPTH = 32
"""Objects and arrays within one another."""
_SEPARATORS = (b",", b"[", b"{")
_LONGEST_REASON = 400
_RENAMED_IN = 2
_RENAMED = {"licence": "license"}
_RENAMED_FIDELITY = {"pictures": "images", "lost": "missed", "invented": "spurious"}
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def is_member_name(name: str) -> bool:
    """Whether `name` may name a file in a bundle: ASCII letters, digits, `_`, `-` and single inner dots, no folder."""
    return len(name) <= 128 and _MEMBER_NAME.match(name) is not None


class InputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The fixed network input: `height` x `width` pixels, padded with `pad_value` (uint8, RGB).

    `channel_order` is that of the graph's input and always "rgb": the checkpoint's own order is folded into the graph.
    """

    height: int
    width: int
    pad_value: Tuple[int, int, int]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        """Refuse sizes and colors that no image has."""
        _require(1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE, f"input size not in 1..{MAX_SIDE}")
        _require(all(0 <= value <= 255 for value in self.pad_value), "pad_value not in 0..255")
        _require(self.channel_order == "rgb", 'channel_order is not "rgb"')


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The recipe that made the graphs, with every option that was not its default."""

    name: str
    version: str
    options: Dict[str, Any] = {}


class CalibrationImage(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration image: its path within the calibration folder, `/` between parts, and SHA-256 of its bytes."""

    name: str
    sha256: str


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Which images gave the ranges, how they were sampled and checked, and how the ranges were estimated.

    `found` is the number of images they were sampled from by `seed`; `overrides` and `warnings` are codes of the
    guard's refusals that the user overrode and of the warnings that were shown. On the images `held_out` the graphs
    were compared with the float one; where it is empty, that was done on some of `images`. `clipped` is the share of
    values, 0 to 1, beyond the calibrated range of the tensors for which it is largest, by name.
    """

    images: List[CalibrationImage]
    seed: int
    estimator: str = ""
    found: int = 0
    overrides: List[str] = []
    warnings: List[str] = []
    held_out: List[CalibrationImage] = []
    clipped: Dict[str, float] = {}

    def summary(self) -> str:
        """Return the number of images, the seed, the estimator and the overrides in a few words."""
        estimator = f", {self.estimator} ranges" if self.estimator else ""
        overrides = f", overrides: {', '.join(self.overrides)}" if self.overrides else ""
        return f"{len(self.images)} images, seed {self.seed}{estimator}{overrides}"


class GraphEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One graph file of the bundle: name, SHA-256, bytes, ONNX opset and precision ("int8", "float32")."""

    file: str
    sha256: str
    size: int
    opset: int
    precision: str

    def __post_init__(self) -> None:
        """Refuse names that leave the bundle and hashes that are none."""
        _require(is_member_name(self.file) and self.file != MANIFEST_NAME, f"graph file name {self.file!r} not allowed")
        _require(_SHA256.match(self.sha256) is not None, "sha256 is not 64 lower-case hexadecimal digits")
        _require(self.size > 0, "graph size is not positive")

    @classmethod
    def describe(cls, variant: str, data: bytes, *, opset: int, precision: str) -> GraphEntry:
        """Describe the ONNX graph `data` of `variant`, to be stored as `VARIANT.onnx`."""
        digest = hashlib.sha256(data).hexdigest()
        return cls(file=f"{variant}.onnx", sha256=digest, size=len(data), opset=opset, precision=precision)


class Nms(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the in-graph selection: top `per_level_top` of each level, then `candidates`, then `rounds` of NMS."""

    candidates: int
    rounds: int
    iou_threshold: float
    per_level_top: int

    def __post_init__(self) -> None:
        """Refuse bounds that leave nothing."""
        least = min(self.candidates, self.rounds, self.per_level_top)
        _require(least > 0, "candidates, rounds or per_level_top is not positive")
        _require(0 <= self.iou_threshold <= 1, "iou_threshold not in 0..1")


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics (`mask_ap`, `box_ap`, ...) of one graph, and the data and number of images they were measured on."""

    data: str
    images: int
    metrics: Dict[str, float]


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How far one INT8 graph is from the float graph, on `images` calibration images.

    Of the instances that the float graph is sure of (score 0.3 or more), `matched` have their like by class and box,
    `missed` have not; `spurious` are those that the INT8 graph alone is sure of. Of the matched: mean absolute
    difference of the scores, mean IoU of the boxes, mean and lower 5 % quantile of the IoU of the masks; absent where
    none is.
    """

    images: int
    matched: int
    missed: int
    spurious: int
    score_drift: Optional[float] = None
    box_iou: Optional[float] = None
    mask_iou: Optional[float] = None
    mask_iou_low: Optional[float] = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bundle says of itself.

    `classes` names the contiguous class ids, `category_ids` gives the COCO id of each. `score_threshold` is on the
    final score sqrt(class probability x centerness), and `threshold_input` says whether the graphs take a higher one as
    an input; `detections` is K and `mask_size` R of the graph's outputs.
    The graphs give instances from `score_threshold` on; those from `display_threshold` on are shown unless others are
    asked for. `display_measurement` is its F1, precision and recall, None where the default was not measured.
    `graphs`, `metrics` and `fidelity` are keyed by variant ("cpu", "tensorrt", "float"). `arithmetic` is the accuracy
    of the `tensorrt` graph in each arithmetic that a GPU may use, by name; empty where it was not measured. `created`
    is ISO 8601, UTC.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    config: Dict[str, Any]
    input: InputSpec
    classes: List[str]
    category_ids: List[int]
    recipe: Recipe
    calibration: Optional[Calibration] = None
    graphs: Dict[str, GraphEntry]
    ranges_sha256: Optional[str] = None
    nms: Nms
    score_threshold: float
    threshold_input: bool = False
    display_threshold: float = DEFAULT_DISPLAY_THRESHOLD
    display_measurement: Optional[Measurement] = None
    detections: int
    mask_size: int
    metrics: Dict[str, List[Measurement]] = {}
    fidelity: Dict[str, Fidelity] = {}
    arithmetic: Dict[str, Measurement] = {}
    versions: Dict[str, str] = {}
    license: str
    created: str
    generator: str

    def __post_init__(self) -> None:
        """Refuse a manifest whose parts contradict each other."""
        _require(len(self.classes) > 0, "classes is empty")
        _require(len(self.classes) == len(self.category_ids), "classes and category_ids differ in length")
        _require(len(set(self.category_ids)) == len(self.category_ids), "category_ids names one category twice")
        _require(len(self.graphs) > 0, "graphs is empty")
        _require(all(map(is_member_name, self.graphs)), "a variant of graphs has a name that no file may have")
        files = [graph.file for graph in self.graphs.values()]
        _require(len(set(files)) == len(files), "two graphs share one file")
        _require(self.detections > 0 and self.mask_size > 0, "detections or mask_size is not positive")
        _require(0 <= self.score_threshold <= 1, "score_threshold not in 0..1")
        _require(0 <= self.display_threshold <= 1, "display_threshold not in 0..1")


class _Header(msgspec.Struct):
    schema_version: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON, UTF-8; of names of files that are not UTF-8, the odd bytes as `\\udcXX`."""
    try:
        compact = msgspec.json.encode(manifest)
    except UnicodeEncodeError:
        compact = msgspec.json.encode(_utf8(msgspec.to_builtins(manifest)))
    return msgspec.json.format(compact, indent=2)


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest from JSON.

    Raises:
        BundleError: no JSON, another schema version, or a field is missing, of a wrong type or out of range.
    """
    try:
        _require(sum(map(data.count, _SEPARATORS)) <= MAX_VALUES, f"it holds more than {MAX_VALUES} values")
        version = msgspec.json.decode(data, type=_Header).schema_version
        if not OLDEST_SCHEMA_VERSION <= version <= SCHEMA_VERSION:
            raise BundleError(
                f"{MANIFEST_NAME} has schema version {version}, this release reads {OLDEST_SCHEMA_VERSION} to "
                f"{SCHEMA_VERSION}. " + ("Upgrade blendmask-edge." if version > SCHEMA_VERSION else "Rebuild it.")
            )
        document = msgspec.json.decode(data)
        fields = _check_document(document)
        _require(fields == _count_fields(data), "an object names a field twice")
        return msgspec.convert(_upgrade(document) if version == 1 else document, Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{MANIFEST_NAME} is not sound: {str(error)[:_LONGEST_REASON]}. Build or fetch the bundle again."
        ) from error


def _upgrade(document: Dict[str, Any]) -> Dict[str, Any]:
    """Return a manifest of schema 1 with the field names of schema 2."""
    upgraded = {_RENAMED.get(name, name): value for name, value in document.items()}
    upgraded["schema_version"] = _RENAMED_IN
    compared = upgraded.get("fidelity")
    if isinstance(compared, dict):
        upgraded["fidelity"] = {variant: _rename_fidelity(entry) for variant, entry in compared.items()}
    return upgraded


def _rename_fidelity(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {_RENAMED_FIDELITY.get(name, name): value for name, value in entry.items()}


def _utf8(value: Any) -> Any:
    """Return plain data with what UTF-8 cannot say in its strings written out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_utf8(name): _utf8(held) for name, held in value.items()}
    return [_utf8(held) for held in value] if isinstance(value, (list, tuple)) else value


def _count_fields(data: bytes) -> int:
    """Return how many fields a JSON text gives its objects: as many as it has colons outside of strings."""
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return sum(part.count(b":") for part in unescaped.split(b'"')[::2])


def _check_document(document: Any) -> int:
    """Refuse what takes long to read or to print: deep nesting, long texts, and integers that fit no float.

    Returns:
        The number of fields of all objects.
    """
    level, depth, fields = [document], 0, 0
    while level:
        depth += 1
        _require(depth <= MAX_DEPTH, f"it is nested more than {MAX_DEPTH} deep")
        below: List[Any] = []
        for value in level:
            _check_value(value)
            fields += len(value) if isinstance(value, dict) else 0
            below.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        level = below
    return fields


def _check_value(value: Any) -> None:
    if isinstance(value, int):
        _require(-(2**63) <= value < 2**63, "an integer has more than 64 bits")
    texts = value if isinstance(value, dict) else (value,) if isinstance(value, str) else ()
    _require(all(len(text) <= MAX_TEXT for text in texts), f"a text has more than {MAX_TEXT} characters")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
