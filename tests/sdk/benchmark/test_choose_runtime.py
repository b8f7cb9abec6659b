"""The runtime of a benchmark is chosen without a trace in the process that is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blendmask_edge import SignatureError, require_signature
from blendmask_edge.benchmark.choose_runtime import choose_runtime
from tests.sdk.bundle.signing_keys import write_keys

pytest.importorskip("onnxruntime")

PROGRAM = """
import sys
import numpy as np
from blendmask_edge.benchmark.choose_runtime import choose_runtime
if __name__ == "__main__":
    image = np.full((64, 96, 3), (40, 60, 250), np.uint8)
    print(*choose_runtime(sys.argv[1], 1, None, image), *{"onnxruntime", "openvino"} & set(sys.modules))
"""


@pytest.mark.slow
@pytest.mark.parametrize("has_guard", [True, False])
def test_no_runtime_is_loaded_where_another_process_can_choose(
    tmp_path: Path, bundle_path: Path, has_guard: bool
) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM if has_guard else PROGRAM.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run([sys.executable, str(script), str(bundle_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runtime, variant, *loaded = done.stdout.splitlines()[-1].split()
    assert runtime in ("onnxruntime", "openvino")
    assert variant == "cpu"
    assert not loaded or not has_guard


def test_the_other_process_runs_no_bundle_without_the_required_signature(tmp_path: Path, bundle_path: Path) -> None:
    pytest.importorskip("cryptography")
    _, public = write_keys(tmp_path, "maker")
    with require_signature(public), pytest.raises(SignatureError, match="is not signed"):
        choose_runtime(bundle_path, 1, None, np.full((64, 96, 3), 230, np.uint8))


def test_ctrl_c_ends_the_other_process_at_once_and_without_a_word() -> None:
    program = (
        "import os, signal, time; from blendmask_edge.benchmark.choose_runtime import _start; _start(); "
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(600)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
