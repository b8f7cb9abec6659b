"""Predict image files: overlays to look at and one COCO file, all or nothing."""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Set

import msgspec

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging import encode_jpeg, read_image
from blendmask_edge.storage.atomic import output_error

if TYPE_CHECKING:
    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.instances import Instances
    from blendmask_edge.predictor import MaskPredictor
    from blendmask_edge.storage.atomic import PathLike

INSTANCES_NAME = "instances.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def find_images(paths: Iterable[PathLike]) -> List[Path]:
    """Return the files among `paths`, and in their place the images directly inside each folder, by name.

    Raises:
        ImageError: a path does not exist, or a folder holds no image.
    """
    found: Dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ImageError(f"{path} does not exist. Give image files, or folders of them.")
        found.update(dict.fromkeys(_images_in(path) if path.is_dir() else [path]))
    return list(found)


def predict_files(predictor: MaskPredictor, files: Iterable[Path], folder: PathLike) -> Dict[str, Any]:
    """Write NAME.overlay.jpg for each image and `instances.json` for all of them into `folder`.

    Returns:
        What `instances.json` holds: COCO `images` (with the `overlay`), `annotations` (with `score`), `categories`.

    Raises:
        ImageError: a image cannot be read; nothing is written then.
        OutputError: the folder cannot be written.
    """
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    taken: Set[str] = set()
    with _staged(Path(folder)) as stage:
        for image_id, file in enumerate(files, start=1):
            image = read_image(file)
            instances = predictor(image)
            overlay = _unused(file.stem, taken)
            (stage / overlay).write_bytes(encode_jpeg(instances.draw(image)))
            height, width = instances.image_size
            images.append(
                {"id": image_id, "file_name": str(file), "height": height, "width": width, "overlay": overlay}
            )
            annotations.extend(_annotations(instances, image_id, len(annotations) + 1))
        document = {"images": images, "annotations": annotations, "categories": _categories(predictor.manifest)}
        (stage / INSTANCES_NAME).write_bytes(msgspec.json.encode(document))
    return document


def _images_in(folder: Path) -> List[Path]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise ImageError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Give another folder.")
    return images


def _annotations(instances: Instances, image_id: int, first_id: int) -> List[Dict[str, Any]]:
    from pycocotools import mask as coco_mask

    return [
        {"id": number, **result, "area": int(coco_mask.area(result["segmentation"])), "iscrowd": 0}
        for number, result in enumerate(instances.to_coco(image_id), start=first_id)
    ]


def _categories(manifest: Manifest) -> List[Dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in zip(manifest.category_ids, manifest.classes)]


def _unused(stem: str, taken: Set[str]) -> str:
    name, number = f"{stem}.overlay.jpg", 2
    while name in taken:
        name, number = f"{stem}-{number}.overlay.jpg", number + 1
    taken.add(name)
    return name


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside `folder`, whose files are moved up when the block ends well."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    stage = folder / f".{uuid.uuid4().hex[:8]}.part"
    try:
        try:
            stage.mkdir(parents=True)
            yield stage
            _move_up(stage, folder)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            _remove_empty(made)
    except OSError as error:
        raise output_error(folder, error) from error


def _move_up(stage: Path, folder: Path) -> None:
    """Move all files, the document that names the others last; none where a folder is in the way of one."""
    files = sorted(stage.iterdir(), key=lambda file: file.name == INSTANCES_NAME)
    for file in files:
        target = folder / file.name
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{file.name} there is a folder")
    for file in files:
        file.replace(folder / file.name)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
