"""Read, resize, paste and draw. No other code touches pixels.

Sizes are (height, width). Images are (H, W, 3) uint8, in RGB unless `channels="bgr"` is passed.
"""

from __future__ import annotations

from blendmask_edge.imaging.boxes import clip_boxes
from blendmask_edge.imaging.decoding import encode_jpeg
from blendmask_edge.imaging.headers import MAX_PIXELS, MAX_SIDE, check_size
from blendmask_edge.imaging.io import MAX_FILE_BYTES, check_image, decode_image, image_size, read_image
from blendmask_edge.imaging.masks import paste, paste_all, sigmoid
from blendmask_edge.imaging.resize import (
    ImageTransform,
    PreprocessedImage,
    fit_size,
    preprocess,
    resize,
    resized_size,
)

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "ImageTransform",
    "PreprocessedImage",
    "check_image",
    "check_size",
    "clip_boxes",
    "decode_image",
    "encode_jpeg",
    "fit_size",
    "image_size",
    "paste",
    "paste_all",
    "preprocess",
    "read_image",
    "resize",
    "resized_size",
    "sigmoid",
]
