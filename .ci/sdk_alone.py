"""Does the SDK with one runtime and nothing else bring no torch, and predict? Arguments: a bundle, an image."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

import blendmask_edge

bundle, image = sys.argv[1:]
loaded = {"torch", "cv2", "PIL", "onnxruntime", "numpy"} & set(sys.modules)
if loaded:
    sys.exit(f"`import blendmask_edge` loaded {sorted(loaded)}")
arrived = [name for name in ("torch", "torchvision", "onnx", "cv2") if importlib.util.find_spec(name)]
if arrived:
    sys.exit(f"the extra [cpu] brought {arrived}")
with blendmask_edge.MaskPredictor(bundle) as predictor:
    instances = predictor(blendmask_edge.read_image(image))
if not len(instances):
    sys.exit(f"no instance detected in {image}")
packages = sorted(package.metadata["Name"] for package in importlib.metadata.distributions())
print(f"{len(instances)} instances detected with {len(packages)} packages installed: {', '.join(packages)}")
