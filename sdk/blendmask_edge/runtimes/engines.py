"""Names of engines and programs in the cache: each says all that its content depends on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Optional

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cuda import Gpu, find_gpu
from blendmask_edge.storage.cache import Cache

_TORCH_DISTRIBUTION = "torch-tensorrt"
_PROVIDER_SUFFIX = ".onnxruntime"


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on. Builds with the same key can share a file.

    Attributes:
        graph_sha256: SHA-256 of the ONNX file.
        sm: compute capability of the GPU.
        tensorrt: full version of TensorRT.
        driver: driver version, as in `Gpu`.
        arguments: result of `BuildArguments.as_dict`.
        workspace_bytes: memory limit of the build. It affects the speed of an engine, not where it runs.
    """

    graph_sha256: str
    sm: str
    tensorrt: str
    driver: str
    arguments: Dict[str, object]
    workspace_bytes: Optional[int] = None

    @property
    def stem(self) -> str:
        """A name to read, with a digest of the key but for the workspace."""
        text = json.dumps({**asdict(self), "workspace_bytes": None}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        version = re.sub(r"[^0-9A-Za-z.]", "_", self.tensorrt)
        return f"{_named(self.graph_sha256, self.sm)}-trt{version}-{digest}"

    @property
    def file_name(self) -> str:
        """The stem, and the workspace where one was given."""
        workspace = "" if self.workspace_bytes is None else f"-workspace{self.workspace_bytes}"
        return f"{self.stem}{workspace}.engine"


@dataclass(frozen=True)
class Engine:
    """A compiled engine, or program of Torch-TensorRT.

    Attributes:
        path: path in the cache.
        key: graph, GPU, versions and options that it depends on.
        reused: whether it was already in the cache.
    """

    path: Path
    key: EngineKey
    reused: bool


def engine_cache() -> Cache:
    """Return the cache of TensorRT engines.

    Raises:
        OutputError: there is no cache folder.
    """
    return Cache.of_machine("engines")


def program_cache() -> Cache:
    """Return the cache of Torch-TensorRT programs.

    They cannot lie in a bundle: a program holds an engine, which fits one GPU and one TensorRT, and is read by pickle.

    Raises:
        OutputError: there is no cache folder.
    """
    return Cache.of_machine("programs")


def find_engine(cache: Cache, key: EngineKey) -> Optional[str]:
    """Return the name of a sound engine that was built before, or None.

    A key without a workspace takes the newest engine, whatever workspace that was given.
    """
    if key.workspace_bytes is not None:
        names = [key.file_name]
    else:
        names = [name for name in cache.names() if name.startswith(key.stem) and name.endswith(".engine")]
    return next((name for name in names if cache.read(name) is not None), None)


def provider_engine_name(key: EngineKey) -> str:
    """Return the name of what ONNX Runtime's TensorRT provider built, in the cache of engines."""
    return f"{key.stem}{_PROVIDER_SUFFIX}"


def provider_engine_present(graph_sha256: str) -> bool:
    """Whether ONNX Runtime's TensorRT provider has built an engine of this graph for the GPU here, by any version."""
    gpu = find_gpu()
    if gpu is None:
        return False
    start = f"{_named(graph_sha256, gpu.sm)}-"
    try:
        return any(name.startswith(start) and name.endswith(_PROVIDER_SUFFIX) for name in engine_cache().names())
    except OutputError:
        return False


def program_key(graph_sha256: str, gpu: Gpu) -> EngineKey:
    """Return the key of a program, from what can be read without importing torch."""
    return EngineKey(graph_sha256, gpu.sm, f"torch{_torch_tensorrt_version()}", gpu.driver, {})


def program_name(graph_sha256: str, gpu: Gpu) -> str:
    """Return the name of the program of the graph of this SHA-256, an exported program (.ep).

    It changes with the GPU, the driver and the installed version of Torch-TensorRT.
    """
    return f"{program_key(graph_sha256, gpu).stem}.ep"


def program_present(graph_sha256: str) -> bool:
    """Whether there is such a program for the GPU here."""
    gpu = find_gpu()
    try:
        return gpu is not None and program_name(graph_sha256, gpu) in program_cache().names()
    except OutputError:
        return False


def _named(graph_sha256: str, sm: str) -> str:
    return f"{graph_sha256[:12]}-sm{sm.replace('.', '')}"


def _torch_tensorrt_version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(_TORCH_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
