"""Configurations from the reference's own `MODEL` and `INPUT` keys (AdelaiDet `adet/config/defaults.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import (
    BackboneConfig,
    BasesConfig,
    HeadConfig,
    InferenceConfig,
    InputConfig,
    ModelConfig,
)

_FIXED: dict[str, dict[str, Any]] = {
    "BACKBONE": {"ANTI_ALIAS": False},
    "FPN": {"NORM": "", "FUSE_TYPE": "sum"},
    "FCOS": {
        "USE_SCALE": False,
        "USE_RELU": True,
        "USE_DEFORMABLE": False,
        "THRESH_WITH_CTR": True,
        "BOX_QUALITY": "ctrness",
    },
    "BASIS_MODULE": {"NAME": "ProtoNet"},
    "BLENDMASK": {"TOP_INTERP": "bilinear", "POOLER_TYPE": "ROIAlignV2", "POOLER_SAMPLING_RATIO": 1},
    "RESNETS": {"NUM_GROUPS": 1, "STRIDE_IN_1X1": True, "RES5_DILATION": 1},
    "DLA": {"CONV_BODY": "DLA34"},
}
"""Settings that this package supports with one value only, which every released configuration has."""

_LONGEST_SIDE = 16384

_FIXED_FOR_RESNET: dict[str, dict[str, Any]] = {"FPN": {"IN_FEATURES": ["res3", "res4", "res5"]}}
_FIXED_FOR_DLA: dict[str, dict[str, Any]] = {"FPN": {"IN_FEATURES": ["level3", "level4", "level5"]}}
_FIXED_WHERE_DEFORMABLE: dict[str, dict[str, Any]] = {"RESNETS": {"DEFORM_MODULATED": True, "DEFORM_NUM_GROUPS": 1}}


def config_from_authors(keys: Mapping[str, Any], name: str) -> ModelConfig:
    """The configuration that effective `MODEL` and `INPUT` keys describe.

    Args:
        keys: nested mapping, as in a YAML file with its bases merged in.
        name: what to call it.

    Raises:
        ConfigError: a key is missing, has a value of another type, or names a part that this package does not build.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(_translate(keys["MODEL"], keys["INPUT"], name)), ModelConfig)
    except KeyError as error:
        raise ConfigError(
            f"the configuration lacks the key {error}: give the effective MODEL and INPUT keys"
        ) from error
    except (TypeError, AttributeError, msgspec.ValidationError) as error:
        raise ConfigError(f"a key of the configuration has a value of the wrong type ({error}): correct it") from error


def _translate(model: Mapping[str, Any], inputs: Mapping[str, Any], name: str) -> ModelConfig:
    _check(model, _FIXED)
    return ModelConfig(
        name=name,
        num_classes=model["FCOS"]["NUM_CLASSES"],
        backbone=_backbone(model),
        pyramid_width=model["FPN"]["OUT_CHANNELS"],
        extra_levels=model["FCOS"]["TOP_LEVELS"],
        head=_head(model["FCOS"]),
        bases=_bases(model),
        attention_size=model["BLENDMASK"]["ATTN_SIZE"],
        resolution=model["BLENDMASK"]["BOTTOM_RESOLUTION"],
        input=_input(model, inputs),
        inference=_inference(model["FCOS"]),
    )


def _check(model: Mapping[str, Any], built: Mapping[str, Mapping[str, Any]]) -> None:
    for section, keys in built.items():
        for key, value in keys.items():
            stated = model.get(section, {}).get(key, value)
            if stated != value:
                raise ConfigError(
                    f"{section}.{key} is {stated!r}, only {value!r} is built here: use a released configuration"
                )


def _backbone(model: Mapping[str, Any]) -> BackboneConfig:
    name = model["BACKBONE"]["NAME"]
    frozen = max(model["BACKBONE"]["FREEZE_AT"], 0)
    if "dla" in name:
        _check(model, _FIXED_FOR_DLA)
        return _dla(model["DLA"], frozen)
    if "resnet" not in name or model.get("MOBILENET"):
        raise ConfigError(f"the backbone {name} is not built here: use a ResNet or DLA-34")
    _check(model, _FIXED_FOR_RESNET)
    resnets = model["RESNETS"]
    stages = tuple(stage for stage, deforms in enumerate(resnets["DEFORM_ON_PER_STAGE"], start=2) if deforms)
    if stages:
        _check(model, _FIXED_WHERE_DEFORMABLE)
    return BackboneConfig(
        depth=resnets["DEPTH"],
        norm=resnets["NORM"],
        frozen_stages=frozen,
        stem_width=resnets["STEM_OUT_CHANNELS"],
        res2_width=resnets["RES2_OUT_CHANNELS"],
        bottleneck_width=resnets["NUM_GROUPS"] * resnets["WIDTH_PER_GROUP"],
        deform_stages=stages,
        deform_interval=resnets["DEFORM_INTERVAL"] if stages else 1,
    )


def _dla(dla: Mapping[str, Any], frozen: int) -> BackboneConfig:
    """DLA-34; `CHANNELS`, of level0 to level5, is an argument in the reference and has no key there."""
    config = BackboneConfig(kind="dla34", norm=dla["NORM"], frozen_stages=frozen)
    return replace(config, level_widths=tuple(dla.get("CHANNELS", config.level_widths)))


def _head(fcos: Mapping[str, Any]) -> HeadConfig:
    return HeadConfig(
        strides=tuple(fcos["FPN_STRIDES"]),
        size_bounds=tuple(fcos["SIZES_OF_INTEREST"]),
        shared_convs=fcos["NUM_SHARE_CONVS"],
        class_convs=fcos["NUM_CLS_CONVS"],
        box_convs=fcos["NUM_BOX_CONVS"],
        norm="" if fcos["NORM"] == "none" else fcos["NORM"],
        radius=fcos["POS_RADIUS"],
        prior=fcos["PRIOR_PROB"],
    )


def _bases(model: Mapping[str, Any]) -> BasesConfig:
    """The bases; a semantic head of other classes than the detector's is left out, as predictions do not need it."""
    bases, classes = model["BASIS_MODULE"], model["FCOS"]["NUM_CLASSES"]
    return BasesConfig(
        count=bases["NUM_BASES"],
        width=bases["CONVS_DIM"],
        convs=bases["NUM_CONVS"],
        norm=bases["NORM"],
        semantic=bases["LOSS_ON"] and bases.get("NUM_CLASSES", classes) == classes,
    )


def _input(model: Mapping[str, Any], inputs: Mapping[str, Any]) -> InputConfig:
    return InputConfig(
        channels=inputs["FORMAT"].lower(),
        mean=tuple(model["PIXEL_MEAN"]),
        std=tuple(model["PIXEL_STD"]),
        test_short=inputs["MIN_SIZE_TEST"],
        test_long=inputs["MAX_SIZE_TEST"],
        train_short=_train_short(inputs),
        train_long=inputs["MAX_SIZE_TRAIN"],
    )


def _train_short(inputs: Mapping[str, Any]) -> tuple[int, ...]:
    sides = tuple(inputs["MIN_SIZE_TRAIN"])
    if inputs.get("MIN_SIZE_TRAIN_SAMPLING") != "range":
        return sides
    first, last = sides if len(sides) == 2 else (0, 0)
    if not 1 <= first <= last <= _LONGEST_SIDE:
        raise ConfigError(f"INPUT.MIN_SIZE_TRAIN is {list(sides)!r:.80}, expected the first and the last of a range")
    return tuple(range(first, last + 1))


def _inference(fcos: Mapping[str, Any]) -> InferenceConfig:
    return InferenceConfig(
        score_threshold=fcos["INFERENCE_TH_TEST"],
        candidates_per_level=fcos["PRE_NMS_TOPK_TEST"],
        nms_threshold=fcos["NMS_TH"],
        detections=fcos["POST_NMS_TOPK_TEST"],
    )
