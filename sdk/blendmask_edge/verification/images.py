"""The images of a verification, with annotations or without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Union

from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.folder import images_in
from blendmask_edge.imaging.io import image_size
from blendmask_edge.labels import Labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.verification.job import Job


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder, by number from 1."""

    files: Sequence[Path]

    @property
    def ids(self) -> Sequence[int]:
        """Ids of the images."""
        return range(1, len(self.files) + 1)

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read.
        """
        return read_image(self.files[image_id - 1])


JobImages = Union[AnnotatedImages, FolderImages]


def open_images(job: Job, manifest: Manifest) -> JobImages:
    """Return the images of a job.

    Raises:
        AnnotationError, ImageError: as `AnnotatedImages.open`.
        SourceError: the folder cannot be read or holds no image.
    """
    if job.annotations is None:
        return FolderImages(images_in(Path(job.images)))
    return AnnotatedImages.open(job.images, job.annotations, Labels(manifest.classes, manifest.category_ids))


def image_entries(images: JobImages) -> List[Dict[str, Any]]:
    """Return the images as entries of a COCO document: id, file name, height and width."""
    if isinstance(images, AnnotatedImages):
        names = ("id", "file_name", "height", "width")
        return [{name: images.coco.imgs[image_id][name] for name in names} for image_id in images.ids]
    sizes = [image_size(file) for file in images.files]
    return [
        {"id": image_id, "file_name": file.name, "height": height, "width": width}
        for image_id, file, (height, width) in zip(images.ids, images.files, sizes)
    ]
