"""COCO instance annotations as training samples."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import check_size, read_coco
from blendmask_edge.imaging import fit_size, read_image
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.labels import Labels
from blendmask_quantize.training.augment import Augmentation, random_view
from blendmask_quantize.training.copy_paste import Scene, paste
from blendmask_quantize.training.sampling import EVEN, SamplingOptions, repeat_factors, repeated
from blendmask_quantize.training.targets import mask_targets

SMALLEST_OBJECT = 20
"""Visible pixels below which an object of a random view is not asked for."""


@dataclass(frozen=True)
class Sample:
    """One training view.

    Attributes:
        pixels: (3, h, w) uint8 RGB.
        boxes: (n, 4) float32, x0 y0 x1 y1 of the visible masks.
        classes: (n,) int64, contiguous.
        mask_targets: (n, R, R) bool, each mask inside its box.
        semantic: (h, w) int64, 0 for nothing, contiguous class + 1.
    """

    pixels: Tensor
    boxes: Tensor
    classes: Tensor
    mask_targets: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class Batch:
    """Samples stacked; the instances of all images one after the other.

    Attributes:
        pixels: (N, 3, H, W) uint8 RGB.
        boxes, classes, mask_targets: one tensor an image, as in `Sample`.
        semantic: (N, H, W) int64.
    """

    pixels: Tensor
    boxes: tuple[Tensor, ...]
    classes: tuple[Tensor, ...]
    mask_targets: tuple[Tensor, ...]
    semantic: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        instances = (self.boxes, self.classes, self.mask_targets)
        boxes, classes, masks = (tuple(tensor.to(device) for tensor in part) for part in instances)
        return Batch(self.pixels.to(device), boxes, classes, masks, self.semantic.to(device))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack views of one size."""
    return Batch(
        torch.stack([sample.pixels for sample in samples]),
        tuple(sample.boxes for sample in samples),
        tuple(sample.classes for sample in samples),
        tuple(sample.mask_targets for sample in samples),
        torch.stack([sample.semantic for sample in samples]),
    )


def coco_labels(coco: COCO) -> Labels:
    """Contiguous classes of an annotation file: rank of the category id."""
    categories = sorted(coco.dataset["categories"], key=lambda category: category["id"])
    return Labels(tuple(c["name"] for c in categories), tuple(c["id"] for c in categories))


class Images(Protocol):
    """Where random views come from.

    Attributes:
        labels: what the classes mean.
        presence: (images, classes) bool, whether an image holds the class.
    """

    labels: Labels

    @property
    def presence(self) -> NDArray[np.bool_]: ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What image `index` is called."""
        ...

    def view(self, index: int, rng: np.random.Generator) -> Sample:
        """A random view of image `index`."""
        ...


class CocoImages:
    """Random views of the images of one annotation file; images without a valid object are left out.

    Args:
        images: folder of the images.
        annotations: COCO instances JSON; polygons and RLE; crowds count for the semantic target only.
        config: the network that will be trained.
        options: how views vary.
        sampling: which classes are pasted more often than others.

    Raises:
        AnnotationError: unreadable annotations, another number of classes, no object, or an image that is not in the
            folder.
        ConfigError: the sampling names an unknown class.
    """

    def __init__(
        self, images: str | Path, annotations: str | Path, config: ModelConfig, options: Augmentation,
        sampling: SamplingOptions = EVEN,
    ) -> None:  # fmt: skip
        self.folder, self.config, self.options = Path(images), config, options
        coco = read_coco(annotations)
        self.labels = coco_labels(coco)
        if len(self.labels.names) != config.num_classes:
            raise AnnotationError(
                f"{annotations} has {len(self.labels.names)} categories, {config.name} expects {config.num_classes}: "
                "set the configuration's class count to match"
            )
        contiguous = {category: index for index, category in enumerate(self.labels.category_ids)}
        self.entries = [entry for entry in (_entry(coco, image, contiguous) for image in coco.getImgIds()) if entry]
        _check_files(annotations, self.folder, [entry.file_name for entry in self.entries])
        r, g, b = config.input.mean if config.input.channels == "rgb" else config.input.mean[::-1]
        self.fill = (round(r), round(g), round(b))
        self.emphases = sampling.emphases(self.labels.names)

    @property
    def presence(self) -> NDArray[np.bool_]:
        """(images, classes) bool, whether an image holds an object of the class."""
        found = np.zeros((len(self.entries), len(self.labels.names)), bool)
        for row, entry in zip(found, self.entries, strict=True):
            row[entry.classes[~entry.crowds]] = True
        return found

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        """File name of image `index`, as annotated."""
        return self.entries[index].file_name

    def only(self, names: Collection[str]) -> CocoImages:
        """Those of the images whose file name, as annotated, is among `names`."""
        chosen = copy.copy(self)
        chosen.entries = [entry for entry in self.entries if entry.file_name in names]
        for cached in ("_holders", "_odds"):
            chosen.__dict__.pop(cached, None)
        return chosen

    def view(self, index: int, rng: np.random.Generator) -> Sample:
        """A random view of image `index`.

        Raises:
            AnnotationError: the image has another size than annotated.
        """
        scene = self._scene(index, rng)
        if self.options.paste and rng.random() < self.options.paste:
            scene = self._pasted(scene, rng)
        return _sample(scene, self.config.resolution)

    def _scene(self, index: int, rng: np.random.Generator) -> Scene:
        entry = self.entries[index]
        pixels = read_image(self.folder / entry.file_name)
        height, width = entry.rles[0]["size"]
        check_size(pixels, {"file_name": entry.file_name, "height": height, "width": width})
        masks = rle_codec.decode(list(entry.rles)).transpose(2, 0, 1).astype(bool)
        inputs = self.config.input
        size = fit_size(pixels.shape[:2], (inputs.test_short, inputs.test_long))
        view = random_view(pixels, masks, size, self.options, rng, self.fill)
        return Scene(view, entry.classes, entry.crowds)

    def _pasted(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """The scene with instances of a random image that holds a random class, those of that class first."""
        class_id = rng.choice(len(self._holders), p=self._odds)
        donor = self._scene(int(rng.choice(self._holders[class_id])), rng)
        whole = ~donor.ignored & (donor.view.masks.sum(axis=(1, 2)) >= SMALLEST_OBJECT)
        rows = rng.permutation(np.flatnonzero(whole))
        wanted_first = rows[np.argsort(donor.classes[rows] != class_id, kind="stable")]
        return paste(scene, donor, wanted_first[: rng.integers(1, self.options.paste_most + 1)])

    @cached_property
    def _holders(self) -> list[NDArray[np.int64]]:
        """Per class, the images that hold it."""
        return [np.flatnonzero(column) for column in self.presence.T]

    @cached_property
    def _odds(self) -> NDArray[np.float64]:
        """How likely each class is pasted: as likely as any other that occurs, but for the class_weights."""
        weights = self.emphases * np.array([len(holders) > 0 for holders in self._holders])
        return np.asarray(weights / weights.sum(), np.float64)


@dataclass(frozen=True)
class _Entry:
    file_name: str
    rles: tuple[dict[str, Any], ...]
    classes: NDArray[np.int64]
    crowds: NDArray[np.bool_]


def _check_files(annotations: str | Path, folder: Path, names: Sequence[str]) -> None:
    if not names:
        raise AnnotationError(f"{annotations} describes no image with an object: give annotations to train on")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(names)} annotated images are not in {folder}, e.g. {missing[0]}: "
            "give the folder that the annotations belong to"
        )


def _entry(coco: COCO, image_id: int, contiguous: dict[int, int]) -> _Entry | None:
    masks = [(annotation, _mask(coco, annotation)) for annotation in coco.imgToAnns[image_id]]
    instances = [(annotation, rle) for annotation, rle in masks if rle is not None]
    crowds = np.array([bool(annotation.get("iscrowd", 0)) for annotation, _ in instances])
    if crowds.all():
        return None
    classes = np.array([contiguous[annotation["category_id"]] for annotation, _ in instances])
    return _Entry(coco.imgs[image_id]["file_name"], tuple(rle for _, rle in instances), classes, crowds)


def _mask(coco: COCO, annotation: dict[str, Any]) -> dict[str, Any] | None:
    """An object's mask as RLE; None where its box has no area."""
    image = coco.imgs[annotation["image_id"]]
    try:
        _, _, width, height = annotation["bbox"]
        if not (width > 0 and height > 0):
            return None
        return _checked(annotation["segmentation"], coco.annToRLE(annotation), (image["height"], image["width"]))
    except Exception as error:  # the codec raises bare ones
        raise AnnotationError(
            f"annotation {annotation.get('id')} of {image['file_name']} holds no mask that can be read ({error!r}): "
            "give polygons or RLE of the image's size, and a box x, y, width, height"
        ) from error


def _checked(segmentation: Any, rle: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    if tuple(rle["size"]) != size:
        raise ValueError(f"a mask of {rle['size']} in an image of {size}")
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        pixels = sum(segmentation["counts"])
        if pixels != size[0] * size[1]:
            raise ValueError(f"runs of {pixels} pixels in an image of {size}")
    return rle


def _sample(scene: Scene, resolution: int) -> Sample:
    pixels, masks = scene.view.pixels, scene.view.masks
    semantic = np.zeros(pixels.shape[:2], np.int64)
    for mask, class_id in zip(masks, scene.classes, strict=True):
        semantic[mask] = class_id + 1
    kept = ~scene.ignored & (masks.sum(axis=(1, 2)) >= SMALLEST_OBJECT)
    masks = masks[kept]
    boxes = torch.from_numpy(mask_boxes(masks))
    return Sample(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
        boxes,
        torch.from_numpy(scene.classes[kept]),
        mask_targets(torch.from_numpy(masks), boxes, resolution),
        torch.from_numpy(semantic),
    )


def mask_boxes(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tight boxes (n, 4), x0 y0 x1 y1, of non-empty masks (n, h, w)."""
    columns, rows = (np.asarray(masks.any(axis=axis)) for axis in (1, 2))
    first_x, first_y = columns.argmax(axis=1), rows.argmax(axis=1)
    last_x = masks.shape[2] - columns[:, ::-1].argmax(axis=1)
    last_y = masks.shape[1] - rows[:, ::-1].argmax(axis=1)
    return np.stack([first_x, first_y, last_x, last_y], axis=1).astype(np.float32)


class ViewStream(Dataset[Sample]):
    """The views of a whole training run, in order: item i is the same in every run with the same seed.

    Each pass over the images of all sources is a new permutation, so a run that starts at item i goes on exactly as
    one that never stopped.

    Args:
        sources: images with the same labels.
        length: views in the run.
        seed: fixes the permutations and the views.
        sampling: which images are shown more than once a pass.

    Raises:
        AnnotationError: the sources name different categories.
        ConfigError: the sampling names an unknown class.
    """

    def __init__(self, sources: Sequence[Images], length: int, seed: int, sampling: SamplingOptions = EVEN) -> None:
        if any(source.labels != sources[0].labels for source in sources):
            raise AnnotationError("the annotation files name different categories: train on files with the same ones")
        self.labels = sources[0].labels
        self.length, self.seed = length, seed
        self.places = [(source, index) for source in sources for index in range(len(source))]
        presence = np.concatenate([source.presence for source in sources])
        self.factors = repeat_factors(presence, self.labels.names, sampling)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Sample:
        source, index, seed = self._place(item)
        return source.view(index, np.random.default_rng(seed))

    def name(self, item: int) -> str:
        """The image that view `item` shows."""
        source, index, _ = self._place(item)
        return source.name(index)

    def _place(self, item: int) -> tuple[Images, int, tuple[int, int, int]]:
        """Source, image and seed of a view."""
        length = round(float(self.factors.sum()))
        epoch, position = divmod(item, length)
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(length)
        source, index = self.places[repeated(self.factors, rng.random())[order[position]]]
        return source, index, (self.seed, epoch, position)
