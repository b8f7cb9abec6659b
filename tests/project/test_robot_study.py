"""The study of the robot: a stream survives planted faults, nothing stays behind, and switches are counted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.lib.robot.day import RUNTIME, simulated_day
from bench.lib.robot.identities import IdentityCount, rendered_instances, track_clip
from bench.lib.robot.moving_camera import ClipFrame, render_clip
from bench.lib.robot.soak import cycles_row, frames_row, small_bundle
from bench.lib.tables import TABLES
from blendmask_edge import Tracker
from tests.markdown import table_rows

SCENES = Path(__file__).parents[2] / ".." / "shared" / "data" / "homescenes"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
@linux_only
def test_stream_survives_hours_of_lost_cameras_damaged_frames_and_failing_runtimes(tmp_path: Path) -> None:
    per_hour = {
        "lost for seconds": 60.0, "lost for a minute": 15.0, "size changes": 60.0, "damaged JPEG": 60.0, RUNTIME: 60.0
    }  # fmt: skip
    whole, *faults = simulated_day(small_bundle(tmp_path), 1.0, 0.2, per_hour)
    assert whole["frames"] == whole["results"] + whole["failed"]
    assert whole["frames"] > 200
    assert (whole["wrong"], whole["threads"], whole["descriptors"]) == (0, 0, 0)
    assert len(faults) == 6
    assert all(row["times"] > 0 for row in faults)
    assert all(row["handled"] == row["times"] for row in faults if "handled" in row)
    shown = " ".join(
        cells[0] for cells in table_rows(TABLES["robot_faults"]({row["name"]: row for row in [whole, *faults]}))
    )
    assert all(str(row["name"]).rpartition("/")[2] in shown for row in faults)


@pytest.mark.slow
@linux_only
def test_nothing_stays_of_frames_and_of_predictors(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    frames, cycles = frames_row(bundle, 120), cycles_row(bundle, 4)
    assert (frames["frames"], frames["failed"]) == (120, 0)
    assert frames["megabytes_grown"] < 20
    assert (frames["threads"], frames["descriptors"]) == (0, 0)
    assert (cycles["threads"], cycles["descriptors"]) == (0, 0)
    assert cycles["megabytes_grown"] < 20


def two_objects(number: int) -> ClipFrame:
    """A red object that goes right and a green one that stays."""
    bodies = np.full((60, 120), -1)
    bodies[10:30, 2 * number : 2 * number + 20] = 4
    bodies[40:55, 50:70] = 9
    return ClipFrame(np.zeros((60, 120, 3), np.uint8), bodies, {4: "red", 9: "green"})


def test_identity_switches_are_counted_against_the_rendered_identities() -> None:
    clip = [two_objects(number) for number in range(10)]
    given = [rendered_instances(frame) for frame in clip]
    exchanged = IdentityCount()
    for number, (frame, instances) in enumerate(zip(clip, given, strict=True)):
        ids = np.array([7, 8] if number < 6 else [8, 7])
        exchanged.count(frame.bodies, instances.with_tracks(ids))
    assert (exchanged.switches, exchanged.identified, exchanged.main) == (2, 20, 12)


def test_tracker_keeps_identities_of_objects_that_pass() -> None:
    pytest.importorskip("trackers")
    clip = [two_objects(number) for number in range(10)]
    counts = track_clip(clip, map(rendered_instances, clip), Tracker())
    assert (counts.shown, counts.matched, counts.identified, counts.switches) == (20, 20, 18, 0)


@pytest.mark.slow
def test_identities_are_stable_while_the_camera_goes_around_a_rendered_scene() -> None:
    pytest.importorskip("trackers")
    pytest.importorskip("mujoco")
    if not SCENES.is_dir():
        pytest.skip("needs ../shared/data/homescenes")
    clip = list(render_clip(SCENES, 0, 30, (192, 256)))
    counts = track_clip(clip, map(rendered_instances, clip), Tracker())
    assert counts.matched == counts.shown > 60
    assert counts.identified > 0.9 * counts.matched
    assert counts.switches == 0
