"""Fixtures of the SDK's tests: small bundles, graphs for the checks, and a GPU made of ordinary memory."""

from __future__ import annotations

from tests.sdk.gpu_fixtures import driver, fresh_import, load_engine, make_tensorrt, no_driver, tensorrt_runtime
from tests.sdk.graph_fixtures import make_bundle
from tests.sdk.scenes import clock, scenes
from tests.sdk.small_bundles import (
    bundle_path,
    make_manifest,
    manifest_json,
    overlapping_bundle,
    own_cache,
    rewrite,
    threshold_graph,
    tiny_graph,
)

__all__ = [
    "bundle_path",
    "clock",
    "driver",
    "fresh_import",
    "load_engine",
    "make_bundle",
    "make_manifest",
    "make_tensorrt",
    "manifest_json",
    "no_driver",
    "overlapping_bundle",
    "own_cache",
    "rewrite",
    "scenes",
    "tensorrt_runtime",
    "threshold_graph",
    "tiny_graph",
]
