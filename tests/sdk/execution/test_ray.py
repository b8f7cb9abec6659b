"""Work on a local Ray cluster of two workers. Skipped without Ray; `make ray-check` installs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from blendmask_edge import BlendMaskError, ImageError, MaskPredictor, WorkerError
from blendmask_edge.batch.annotated import predict_annotated
from blendmask_edge.batch.source import BundleSource, OpenedSource
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.execution import ray_cluster
from blendmask_edge.execution.choice import choose_executor
from blendmask_edge.execution.ray_cluster import RayExecutor
from blendmask_edge.execution.serial import SerialExecutor
from tests.processes import wait_for
from tests.sdk.cli.test_predict_processes import content, images, predict
from tests.sdk.execution.squares import Fault, Squares, SquaresOpener, expected
from tests.sdk.execution.test_executors import kill_driver, results
from tests.sdk.scenes import Scenes

__all__ = ["images"]
pytest.importorskip("ray")
DRIVER = """
import sys
from pathlib import Path
from tests.sdk.execution.test_ray import RayExecutor, Squares, SquaresOpener, results
folder = Path(sys.argv[1])
results(Squares(300, SquaresOpener(folder=folder, seconds=0.05)), RayExecutor(sys.argv[2]), folder / "shards")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a cluster of two workers, and return its address."""
    address = f"127.0.0.1:{free_port()}"
    ray = Path(sys.executable).with_name("ray")
    command = [
        str(ray), "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--object-store-memory={100 * 2**20}",
        f"--temp-dir=/tmp/r{os.getpid()}",
    ]  # fmt: skip
    log = (tmp_path_factory.mktemp("ray") / "log").open("w")
    head = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answers(address))
        yield address
    finally:
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)


def test_no_cluster_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes first: Ray looks for a cluster among the processes, too."""
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/no-such-cluster")
    with pytest.raises(BlendMaskError, match="Cannot use the Ray cluster at auto"):
        results(Squares(10), choose_executor(ray="auto"))


def test_results_come_in_order(cluster: str) -> None:
    assert results(Squares(130), RayExecutor(cluster)) == expected(130)


def test_the_shard_of_a_killed_worker_is_done_again(cluster: str, tmp_path: Path) -> None:
    work = Squares(130, SquaresOpener(Fault(50, tmp_path, times=1)))
    assert results(work, RayExecutor(cluster)) == expected(130)
    assert (tmp_path / "killed0").exists()


def test_a_shard_that_kills_every_worker_ends_the_work(cluster: str, tmp_path: Path) -> None:
    work = Squares(130, SquaresOpener(Fault(50, tmp_path, times=99)))
    with pytest.raises(WorkerError, match="died 4 times at numbers 51 to 52"):
        results(work, RayExecutor(cluster))


def test_an_error_of_the_work_arrives_as_it_was_raised(cluster: str, tmp_path: Path) -> None:
    work = Squares(100, SquaresOpener(Fault(40, tmp_path, message="cannot read 40")))
    with pytest.raises(ImageError, match=r"^cannot read 40$"):
        results(work, RayExecutor(cluster))


def test_a_killed_driver_is_continued(cluster: str, tmp_path: Path) -> None:
    done = kill_driver(DRIVER, tmp_path, cluster)
    assert results(Squares(300, SquaresOpener(folder=tmp_path)), SerialExecutor(), tmp_path / "shards") == expected(300)
    assert len((tmp_path / "done.txt").read_text().split()) == 300 - 4 * done


def test_a_bundle_gives_the_same_results_as_in_one_process(cluster: str, bundle_path: Path, scenes: Scenes) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations)
    with MaskPredictor(bundle_path, "onnxruntime", 1, score_threshold=0.0) as predictor:
        here = predict_annotated(OpenedSource(predictor, "one"), images, SerialExecutor())
        source = BundleSource.of(predictor, 1)
    assert predict_annotated(source, images, RayExecutor(cluster)) == here != []


def test_predict_writes_the_files_of_one_process(cluster: str, bundle_path: Path, images: Path, tmp_path: Path) -> None:
    one = predict(bundle_path, images, "-o", tmp_path / "one")
    two = predict(bundle_path, images, "-o", tmp_path / "two", "--ray", cluster)
    assert one.exit_code == two.exit_code == 1, two.output
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert "1 of 6 files failed" in two.output


def test_evaluate_gives_the_values_of_one_process(cluster: str, bundle_path: Path, scenes: Scenes) -> None:
    evaluate = pytest.importorskip("blendmask_quantize.api.evaluate").evaluate
    one, two = (evaluate(bundle_path, scenes.folder, scenes.annotations, threads=1, ray=ray) for ray in (None, cluster))
    assert one == two
    assert "mask_ap" in one


def test_calibration_observes_what_one_process_does(cluster: str) -> None:
    observing = pytest.importorskip("blendmask_quantize.pipeline.observed_images")
    from blendmask_quantize.export.bounds import Bounds
    from tests.quantize.small_networks import image, small_network
    from tests.quantize.tiny import TINY

    pixels = [image(seed) for seed in range(3)]
    sent = observing.SentNetwork(small_network(TINY), (), pixels[0].shape[1:3], Bounds(), threads=1)
    here, there = (
        observing.observe_images(sent, pixels, executor, lambda: None)
        for executor in (SerialExecutor(), RayExecutor(cluster))
    )
    assert here[1] == there[1]
    assert list(here[0]) == list(there[0])
    assert all((here[0][name].counts == there[0][name].counts).all() for name in here[0])


def test_a_file_that_a_node_does_not_see_is_named(cluster: str) -> None:
    with pytest.raises(WorkerError, match=r"has no /nowhere/model\.bmz.*shared file system"):
        results(Squares(10, needs=("/nowhere/model.bmz",)), RayExecutor(cluster))


def test_another_version_of_the_package_is_refused(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    with pytest.raises(WorkerError, match=r"started by 9\.9.*same version on every node"):
        results(Squares(10), RayExecutor(cluster))


def test_more_threads_than_a_node_has_cores_are_refused(cluster: str) -> None:
    with pytest.raises(WorkerError, match="has 3 cores"):
        results(Squares(10), RayExecutor(cluster, threads=3))


@pytest.mark.parametrize("address", ["nowhere", "host:", ":6379", "http://host:80", "host:99999", "ray://host:10001"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(WorkerError, match="is not an address"):
        choose_executor(ray=address)


def test_an_address_that_does_not_answer_is_refused_at_once() -> None:
    with pytest.raises(WorkerError, match="does not answer"):
        choose_executor(ray=f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("address", ["auto", "local"])
def test_named_addresses_are_the_cluster_of_this_machine_and_one_for_the_command(address: str, cluster: str) -> None:
    del cluster
    assert results(Squares(10), choose_executor(ray=address)) == expected(10)


def test_what_answers_and_is_not_ray_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_CONNECT_SECONDS", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        executor = choose_executor(ray=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(WorkerError, match=r"Cannot use|gave no answer within 5 seconds"):
            results(Squares(10), executor)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(address: str) -> Any:
    probe = [sys.executable, "-c", ray_cluster._PROBE, address]
    return subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode == 0
