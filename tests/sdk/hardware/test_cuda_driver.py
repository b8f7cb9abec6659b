"""Our calls of the CUDA driver, made to a driver in C, compiled against the public header, under AddressSanitizer.

Whichever call fails, the user gets one message; all that the driver does not refuse to release is given back, once and
in order. `driver/cuda_driver.c` is
the driver, `driver/scenarios.py` what runs on it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from blendmask_edge.hardware import cuda

SOURCE = Path(__file__).parent / "driver" / "cuda_driver.c"
SCENARIOS = SOURCE.with_name("scenarios.py")
FLAGS = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
    "-g",
    "-fsanitize=address",
]
RELEASES = {
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuStreamDestroy_v2",
    "cuDevicePrimaryCtxRelease_v2",
}
RECORDED = {"cuStreamEndCapture", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"}
"""What may fail while a frame is recorded, without harm."""
ENDED_BY_SANITIZER = 99


def header_folders() -> Iterator[Path]:
    """Where the public header of the CUDA driver may lie: a toolkit, or packages that PyTorch brings."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "include"
    yield Path("/usr/local/cuda/include")
    for package, inside in (("nvidia", "cu13/include"), ("triton", "backends/nvidia/include")):
        found = importlib.util.find_spec(package)
        yield from (Path(place) / inside for place in (found.submodule_search_locations or [] if found else []))


def sanitizer(compiler: str) -> Optional[str]:
    """Return the library of AddressSanitizer, which is loaded before Python; None where the compiler has none."""
    printed = subprocess.run([compiler, "-print-file-name=libasan.so"], stdout=subprocess.PIPE, check=True).stdout
    path = Path(printed.decode().strip())
    return str(path.resolve()) if path.is_absolute() else None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the compiled driver, under the driver's own name."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    header = next((folder for folder in header_folders() if (folder / "cuda.h").is_file()), None)
    if header is None:
        pytest.skip("needs cuda.h, which a CUDA toolkit or PyTorch for CUDA brings")
    if sanitizer(compiler) is None:
        pytest.skip("the C compiler has no AddressSanitizer")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler, *FLAGS, f"-I{header}", str(SOURCE), "-o", str(folder / cuda.LIBRARY_NAME)]
    built = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert built.returncode == 0, built.stderr.decode()
    return folder


def run(scenario: str, folder: Path, cache: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a scenario in a process that finds the compiled driver where the real one would be."""
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer(shutil.which("gcc") or "cc") or "",
        "LD_LIBRARY_PATH": str(folder),
        "ASAN_OPTIONS": f"exitcode={ENDED_BY_SANITIZER}",
        "LSAN_OPTIONS": "exitcode=0",  # Python itself leaves some; what the driver gave out is looked for in the report
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "BLENDMASK_CACHE": str(cache),
    }
    command = [sys.executable, str(SCENARIOS), scenario]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)


def outcome(scenario: str, folder: Path, cache: Path) -> Any:
    """What a scenario printed; the sanitizer must have nothing to say of the driver's memory."""
    done = run(scenario, folder, cache)
    report = done.stderr.decode()
    assert done.returncode == 0, report
    assert SOURCE.name not in report, report
    return json.loads(done.stdout)


def test_driver_answers_what_our_code_calls_and_nothing_else() -> None:
    called = set(re.findall(r'"(cu[A-Z]\w+)"|library\.(cu[A-Z]\w+)', Path(cuda.__file__).read_text(encoding="utf-8")))
    answered = set(re.findall(r"CUDAAPI (cu\w+)\(", SOURCE.read_text(encoding="utf-8")))
    assert {first or second for first, second in called} == answered


@pytest.mark.slow
@pytest.mark.parametrize("work", ["device", "gpu", "session"])
def test_any_call_may_fail(work: str, compiled: Path, tmp_path: Path) -> None:
    records = outcome(f"each-call-of-a-{work}", compiled, tmp_path)
    complete = [record for record in records if not record["call"]]
    assert len(complete) == 2
    assert all(not record["message"] for record in complete)
    assert len(records) > 10
    for record in records:
        if record["call"]:
            refusal = r"out of memory \(CUDA error 2\).*(Run the bundle|Free GPU memory)"
            # Where a frame cannot be recorded it runs call by call, and its result was right.
            is_harmless = record["call"] in RECORDED and not record["message"]
            assert is_harmless or re.search(refusal, record["message"])
            assert "\n" not in record["message"]
        if not record["stays"]:
            refused = int(record["call"] in RELEASES)  # the driver keeps this one, also beyond its context
            assert record["live"] == refused, record
            assert not record["misuse"] or refused, record


def test_destroyed_context_is_told_and_what_is_left_released(compiled: Path, tmp_path: Path) -> None:
    found = outcome("destroyed-context", compiled, tmp_path)
    used, closed, closed_again = found["messages"]
    assert "cuMemcpyHtoDAsync_v2" in used
    assert "CUDA error 709" in closed
    assert closed_again == ""
    assert found["live"] == 0


def test_closing_waits_for_the_stream(compiled: Path, tmp_path: Path) -> None:
    assert outcome("closed-in-the-middle", compiled, tmp_path) == {"misuse": "", "live": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario, report",
    [
        ("leak", r"(?s)detected memory leaks.*leak of 1000 byte.*cuda_driver\.c"),
        ("double-free", r"(?s)attempting double-free.*cuda_driver\.c"),
        ("use-after-close", "heap-use-after-free"),
        ("overrun", "heap-buffer-overflow"),
    ],
)
def test_sanitizer_sees_each_kind_of_fault(scenario: str, report: str, compiled: Path, tmp_path: Path) -> None:
    assert re.search(report, run(scenario, compiled, tmp_path).stderr.decode())
