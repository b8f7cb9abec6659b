"""Engine files that ONNX Runtime writes and reads itself, brought under the rules of our cache.

ONNX Runtime trusts whatever lies in its engine folder. So it gets an empty folder of this user alone, filled from one
digest-checked file of the cache, and what it leaves there is stored as that file.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator

from blendmask_edge.storage.atomic import output_error
from blendmask_edge.storage.cache import Cache
from blendmask_edge.storage.temporary import scratch_folder


@contextmanager
def engine_folder(cache: Cache, name: str, from_cache: bool = True) -> Iterator[Path]:
    """Give a private folder with the files stored as `name`; where the block changed them, store them again.

    Nothing is stored if the block raises.

    Args:
        cache: the cache of engines.
        name: of the one file that holds them all.
        from_cache: whether to begin with what is stored, rather than with an empty folder.

    Raises:
        OutputError: the disk of temporary files cannot be written.
    """
    stored = _unpack(cache.read(name) if from_cache else None)
    with contextlib.ExitStack() as resources:
        with _naming_the_disk():
            folder = resources.enter_context(scratch_folder())
            for file_name, content in stored.items():
                (folder / file_name).write_bytes(content)
        yield folder
        with _naming_the_disk():
            files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        if files and files != stored:
            cache.keep(name, _pack(files))


@contextmanager
def _naming_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(Path(tempfile.gettempdir()), error) from error


def _pack(files: Dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _unpack(data: object) -> Dict[str, bytes]:
    """Return the files of a pack, which the cache has found to be what `_pack` gave."""
    if not isinstance(data, bytes):
        return {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist()}
