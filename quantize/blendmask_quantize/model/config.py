"""Model configurations as values: the released ones and our own.

Names and numbers follow AdelaiDet `configs/BlendMask/*.yaml` and `adet/config/defaults.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config_limits import check_limits


@dataclass(frozen=True)
class BackboneConfig:
    """The backbone below the pyramid.

    Attributes:
        kind: "resnet", "dla34", "lite0", or a name given to `register_backbone`.
        depth: ResNet depth, 26, 50 or 101.
        norm: normalization of every convolution.
        frozen_stages: how many stages, the stem counted first, are not trained.
        stem_width, res2_width, bottleneck_width: ResNet channels of the stem, res2's output and its 3x3 convolutions.
        deform_stages: numbers of the ResNet stages with modulated deformable 3x3 convolutions, 2 to 5.
        deform_interval: in those stages, every how many blocks one has it, the first included.
        level_widths: DLA channels of level0 to level5.
    """

    kind: str = "resnet"
    depth: int = 50
    norm: str = "FrozenBN"
    frozen_stages: int = 2
    stem_width: int = 64
    res2_width: int = 256
    bottleneck_width: int = 64
    deform_stages: tuple[int, ...] = ()
    deform_interval: int = 1
    level_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class HeadConfig:
    """FCOS towers and the levels they read (AdelaiDet `modeling/fcos/fcos.py`).

    Attributes:
        strides: stride of each level in pixels, finest first.
        size_bounds: borders between the levels' ranges of max(l, t, r, b), pixels.
        shared_convs, class_convs, box_convs: convolutions of the three towers.
        norm: "GN", or "BN"/"SyncBN" for one independent normalization a level.
        radius: center sampling radius in strides.
        prior: prior probability of the class scores.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    size_bounds: tuple[int, ...] = (64, 128)
    shared_convs: int = 3
    class_convs: int = 0
    box_convs: int = 0
    norm: str = "GN"
    radius: float = 1.5
    prior: float = 0.01


@dataclass(frozen=True)
class BasesConfig:
    """The bottom module (AdelaiDet `modeling/blendmask/basis_module.py`; paper section 3.1).

    Attributes:
        kind: "protonet", or "deeplab" for the decoder of DeepLabV3+.
        count: number of bases, K.
        width: channels inside.
        convs: 3x3 convolutions at stride 8 before the upsampling.
        norm: normalization of its convolutions.
        semantic: whether the training-only semantic head exists.
        atrous_rates: of "deeplab", dilation of each atrous convolution on P5.
        low_level_width: of "deeplab", channels that P3 is reduced to.
        fine: of "protonet", whether the backbone's features of stride 4 are added after the upsampling. False is the
            reference: bases of stride 4 made of features of stride 8.
    """

    kind: str = "protonet"
    count: int = 4
    width: int = 128
    convs: int = 3
    norm: str = "SyncBN"
    semantic: bool = True
    atrous_rates: tuple[int, ...] = (3, 6, 9)
    low_level_width: int = 48
    fine: bool = False


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the network's input (detectron2 `config/defaults.py`).

    Attributes:
        channels: order of the channels that the weights expect, "bgr" or "rgb".
        mean, std: per channel in that order, pixel values 0..255.
        test_short, test_long: short side target and long side maximum at test time, pixels.
        train_short: short sides drawn from in training.
        train_long: long side maximum in training.
        divisor: sides are padded to a multiple of it.
    """

    channels: str = "bgr"
    mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    test_short: int = 800
    test_long: int = 1333
    train_short: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    train_long: int = 1333
    divisor: int = 32


@dataclass(frozen=True)
class InferenceConfig:
    """Selection of detections (AdelaiDet `modeling/fcos/fcos_outputs.py`).

    Attributes:
        score_threshold: on class probability times centerness, exclusive.
        candidates_per_level: kept before suppression.
        nms: how boxes suppress each other: "batched", "fast" or "cluster"; see `model/nms.py`.
        nms_threshold: intersection over union above which a box of the same class is suppressed; 0 or less suppresses
            none.
        detections: kept after suppression.
        clip_before_pooling: whether a mask is that of the box's part inside the image. False is the reference: the
            mask of the whole box, squeezed into that part.
    """

    score_threshold: float = 0.05
    candidates_per_level: int = 1000
    nms: str = "batched"
    nms_threshold: float = 0.6
    detections: int = 100
    clip_before_pooling: bool = False


@dataclass(frozen=True)
class LayerWidth:
    """Channels of one layer of a thinned network.

    Attributes:
        layer: name of the module.
        inputs, outputs: its channels; the same number for a normalization or a depthwise convolution.
    """

    layer: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything that defines one BlendMask network.

    Attributes:
        name: the registered name.
        num_classes: number of classes.
        pyramid_width: channels of every pyramid level.
        extra_levels: levels below P5 made by stride-2 convolutions (P6, P7).
        blender: how bases become a mask: "attention", "weighted_sum" or "assembler"; see `model/blender.py`.
        attention_size: side M of an instance's attention maps; 1 for "weighted_sum". For "assembler", of its grid.
        resolution: side R of a blended mask.
        widths: the layers of a pruned network whose channels are fewer than the rest of the configuration says.
        dropped: names of residual blocks that a pruned network lacks.
    """

    name: str
    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pyramid_width: int = 256
    extra_levels: int = 0
    head: HeadConfig = field(default_factory=HeadConfig)
    bases: BasesConfig = field(default_factory=BasesConfig)
    blender: str = "attention"
    attention_size: int = 14
    resolution: int = 56
    input: InputConfig = field(default_factory=InputConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    widths: tuple[LayerWidth, ...] = ()
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers, see `check_limits`.

        Raises:
            ConfigError: one is out of range.
        """
        check_limits(self)


_FIVE_LEVELS = HeadConfig(
    strides=(8, 16, 32, 64, 128), size_bounds=(64, 128, 256, 512), shared_convs=0, class_convs=4, box_convs=4
)
_RT_INPUT = InputConfig(
    test_short=512, test_long=736, train_short=tuple(range(256, 609, 32)), train_long=900
)  # fmt: skip
_R_50_3X = ModelConfig("R_50_3x", extra_levels=2, head=_FIVE_LEVELS)
_RT_SHTW = ModelConfig(
    "RT_R_50_4x_syncbn_shtw",
    backbone=BackboneConfig(norm="SyncBN", frozen_stages=0),
    bases=BasesConfig(convs=2),
    input=_RT_INPUT,
)

_RELEASED = (
    _R_50_3X,
    replace(_R_50_3X, name="R_101_3x", backbone=BackboneConfig(depth=101)),
    replace(
        _R_50_3X,
        name="R_101_dcni3_5x",
        backbone=BackboneConfig(depth=101, deform_stages=(3, 4, 5), deform_interval=3),
        input=InputConfig(train_short=tuple(range(640, 865)), train_long=1440),
    ),
    ModelConfig(
        "550_R_50_3x",
        extra_levels=1,
        head=HeadConfig(strides=(8, 16, 32, 64), size_bounds=(64, 128, 256)),
        bases=BasesConfig(convs=2),
        input=InputConfig(test_short=550, test_long=916, train_short=tuple(range(440, 551, 22)), train_long=916),
    ),
    _RT_SHTW,
    replace(_RT_SHTW, name="RT_R_50_4x_bn-head_syncbn_shtw", head=HeadConfig(norm="SyncBN")),
    ModelConfig(
        "DLA_34_syncbn_4x",
        backbone=BackboneConfig(kind="dla34", norm="SyncBN", frozen_stages=0),
        head=HeadConfig(shared_convs=0, class_convs=4, box_convs=4),
        input=_RT_INPUT,
    ),
)

_OURS = (
    ModelConfig(
        "LITE0_RT",
        num_classes=15,
        backbone=BackboneConfig(kind="lite0", frozen_stages=3),
        pyramid_width=96,
        head=HeadConfig(norm="BN"),
        bases=BasesConfig(width=64, convs=2, norm="BN", fine=True),
        attention_size=7,
        input=InputConfig(
            channels="rgb", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0),
            test_short=480, test_long=640, train_short=(384, 416, 448, 480, 512, 544, 576), train_long=800,
        ),
        inference=InferenceConfig(clip_before_pooling=True),
    ),
)  # fmt: skip

YAML_SUFFIXES = (".yaml", ".yml")
"""Suffixes that distinguish a file from the name of a configuration."""

CONFIGS: dict[str, ModelConfig] = {config.name: config for config in (*_RELEASED, *_OURS)}


def unknown_name(kind: str, name: str, known: Iterable[str], advice: str = "") -> ConfigError:
    """The error for a `name` that no `kind` has, e.g. "recipe": it suggests the nearest of the known names."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"no {kind} is called {name!r}: {hint}known are {', '.join(names)}{advice}")


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """See that a `kind` has a name.

    Raises:
        ConfigError: it is not among the known ones; the nearest one is suggested.
    """
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, str(name), known)


def get_config(name: str) -> ModelConfig:
    """The configuration registered under `name`.

    Raises:
        ConfigError: no such name; the nearest one is suggested.
    """
    check_name("configuration", name, CONFIGS)
    return CONFIGS[name]


def list_configs() -> tuple[str, ...]:
    """List the names of the registered configurations, those of AdelaiDet first."""
    return tuple(CONFIGS)


def register_config(config: ModelConfig) -> ModelConfig:
    """Register a configuration, so that its name works wherever a configuration is expected.

    Args:
        config: a configuration with a new name that does not end in ".yaml" or ".yml".

    Returns:
        The same configuration.

    Raises:
        ConfigError: the value is not a `ModelConfig`, or its name is empty, already used, or that of a YAML file.

    Example:
        >>> from dataclasses import replace
        >>> from blendmask_quantize import get_config, register_config
        >>> register_config(replace(get_config("LITE0_RT"), name="KITCHEN_RT", num_classes=3)).num_classes
        3
    """
    if not isinstance(config, ModelConfig):
        raise ConfigError(f"{config!r} is not a configuration: give a ModelConfig")
    if not config.name or config.name.endswith(YAML_SUFFIXES):
        raise ConfigError(f"a configuration cannot be named {config.name!r}: give a name that is not a file's")
    if CONFIGS.get(config.name, config) != config:
        raise ConfigError(f"another configuration is already named {config.name}: give another name")
    CONFIGS[config.name] = config
    return config
