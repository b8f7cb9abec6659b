"""The reference's own YAML files: each over its bases, and these over the reference's defaults."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendmask_edge.errors import ConfigError, DependencyError, install_command
from blendmask_edge.storage.bounded import read_bounded
from blendmask_quantize.checkpoints.adelaidet_configs import config_from_authors
from blendmask_quantize.checkpoints.yaml_text import MOST_BYTES, decode_yaml
from blendmask_quantize.model.config import YAML_SUFFIXES, ModelConfig, get_config

_BASE = "_BASE_"
_BUILT = "BlendMask"
_MOST_BASES = 32

_DEFAULTS: dict[str, Any] = {
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "MOBILENET": False,
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2, "ANTI_ALIAS": False},
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"},
        "FCOS": {
            "NUM_CLASSES": 80,
            "FPN_STRIDES": [8, 16, 32, 64, 128],
            "PRIOR_PROB": 0.01,
            "INFERENCE_TH_TEST": 0.05,
            "NMS_TH": 0.6,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TEST": 100,
            "TOP_LEVELS": 2,
            "NORM": "GN",
            "USE_SCALE": True,
            "USE_RELU": True,
            "USE_DEFORMABLE": False,
            "THRESH_WITH_CTR": False,
            "BOX_QUALITY": "ctrness",
            "SIZES_OF_INTEREST": [64, 128, 256, 512],
            "NUM_CLS_CONVS": 4,
            "NUM_BOX_CONVS": 4,
            "NUM_SHARE_CONVS": 0,
            "POS_RADIUS": 1.5,
        },
        "BASIS_MODULE": {
            "NAME": "ProtoNet",
            "NUM_BASES": 4,
            "LOSS_ON": False,
            "CONVS_DIM": 128,
            "NORM": "SyncBN",
            "NUM_CONVS": 3,
            "NUM_CLASSES": 80,
        },
        "BLENDMASK": {
            "ATTN_SIZE": 14,
            "TOP_INTERP": "bilinear",
            "BOTTOM_RESOLUTION": 56,
            "POOLER_TYPE": "ROIAlignV2",
            "POOLER_SAMPLING_RATIO": 1,
        },
        "RESNETS": {
            "DEPTH": 50,
            "NUM_GROUPS": 1,
            "NORM": "FrozenBN",
            "WIDTH_PER_GROUP": 64,
            "STRIDE_IN_1X1": True,
            "RES5_DILATION": 1,
            "RES2_OUT_CHANNELS": 256,
            "STEM_OUT_CHANNELS": 64,
            "DEFORM_ON_PER_STAGE": [False, False, False, False],
            "DEFORM_MODULATED": False,
            "DEFORM_NUM_GROUPS": 1,
            "DEFORM_INTERVAL": 1,
        },
        "DLA": {"CONV_BODY": "DLA34", "NORM": "FrozenBN", "CHANNELS": [16, 32, 64, 128, 256, 512]},
    },
    "INPUT": {
        "FORMAT": "BGR",
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "MIN_SIZE_TRAIN": [800],
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
    },
}
"""Settings that determine the network, from detectron2 `config/defaults.py` and AdelaiDet `adet/config/defaults.py`."""


def find_config(config: str | Path | ModelConfig) -> ModelConfig:
    """A configuration by its registered name, or from one of the reference's YAML files.

    Raises:
        ConfigError: no configuration has that name, or `read_authors_yaml` refuses the file.
    """
    if isinstance(config, ModelConfig):
        return config
    return read_authors_yaml(Path(config)) if is_yaml(config) else get_config(str(config))


def is_yaml(config: object) -> bool:
    """Whether a configuration is given by a YAML file."""
    return isinstance(config, Path) or (isinstance(config, str) and config.endswith(YAML_SUFFIXES))


def read_authors_yaml(path: Path) -> ModelConfig:
    """The configuration of a BlendMask that one of the reference's YAML files describes, named after the file.

    A file named by `_BASE_` is read first, relative to the one that names it, to any depth. Keys that do not concern
    the network are not looked at.

    Raises:
        ConfigError: a file is missing or no YAML, its bases form a ring, it describes something else than BlendMask, or
            a part of it is not built here.
        DependencyError: PyYAML is not installed.
    """
    keys = _merged(_DEFAULTS, _read(path, ()))
    stated = keys["MODEL"]["META_ARCHITECTURE"] if isinstance(keys["MODEL"], Mapping) else None
    if stated != _BUILT:
        raise ConfigError(
            f"{path} describes {stated!r}, expected META_ARCHITECTURE {_BUILT!r}: give one of configs/BlendMask, with "
            f"the file that its {_BASE} names beside it"
        )
    try:
        return config_from_authors(keys, path.stem)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path, readers: tuple[Path, ...]) -> Mapping[str, Any]:
    """The keys of a file over those of its bases; `readers` are the files that led here."""
    path = _resolved(path)
    if path in readers:
        raise ConfigError(f"{path} is its own {_BASE}, through {readers[-1].name}: take one {_BASE} out")
    if len(readers) > _MOST_BASES:
        raise ConfigError(f"{readers[0]} has more than {_MOST_BASES} bases, each the {_BASE} of another: merge some")
    own = dict(_decode(path))
    base = own.pop(_BASE, None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise ConfigError(f"{_BASE} of {path} is {base!r:.80}, expected the name of a YAML file")
    return _merged(_read(path.parent / Path(base).expanduser(), (*readers, path)), own)


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"no configuration can be read at {str(path)!r:.200} ({error}): check the path") from error


def _decode(path: Path) -> Mapping[str, Any]:
    try:
        content = decode_yaml(read_bounded(path, MOST_BYTES))
    except OSError as error:
        raise ConfigError(
            f"no configuration can be read at {path!s:.200} ({error.strerror}): check the path"
        ) from error
    except ImportError as error:
        raise DependencyError(f"A YAML file needs PyYAML. Type: {install_command('quantize')}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a YAML file ({error}): give one of configs/BlendMask") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, expected MODEL and INPUT keys")
    return content


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _merged(below, value) if both else _plain(value)  # type: ignore[arg-type]
    return merged


def _plain(value: Any) -> Any:
    """The value that a text such as `(640, 672)` stands for: the reference reads texts as Python literals first."""
    if not isinstance(value, str):
        return value
    try:
        stated = ast.literal_eval(value)
        return list(stated) if isinstance(stated, tuple) else stated
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
