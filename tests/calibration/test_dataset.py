"""Listing, sampling, hashing and near-duplicates."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_calibration import (
    CalibrationDataset,
    CalibrationError,
    Limits,
    describe,
    fingerprint,
    list_images,
    near_duplicates,
    other_files,
    sample,
    sha256_file,
)


def scene(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth random image: a coarse random grid, enlarged without blending."""
    cells = np.random.default_rng(seed).integers(0, 200, (12, 16, 3), dtype=np.uint8)
    return cells.repeat(height // 12, axis=0).repeat(width // 16, axis=1)


def bits_apart(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def test_listing_is_sorted_recursive_and_skips_what_is_no_visible_image(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "sub/c.Jpg", ".hidden.jpg", ".cache/d.jpg", "notes.txt", "Z.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    assert list_images(tmp_path) == [tmp_path / name for name in ("Z.webp", "a.jpeg", "b.PNG", "sub/c.Jpg")]


def test_what_is_no_image_is_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.HEIC", "sub/c.heic", "notes", ".hidden.mp4", "d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert other_files(tmp_path) == {".heic": 2, "": 1, ".mp4": 1}


def test_listing_inside_a_hidden_folder_still_finds_its_images(tmp_path: Path) -> None:
    root = tmp_path / ".data"
    root.mkdir()
    (root / "a.png").write_bytes(b"")
    assert list_images(root) == [root / "a.png"]


def test_listing_something_that_is_no_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"missing is not a folder"):
        list_images(tmp_path / "missing")


def test_subfolder_that_goes_away_while_it_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "gone/b.jpg", "there/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scan = os.scandir

    def scandir(place: str) -> object:
        if Path(place).name == "gone":
            raise FileNotFoundError(2, "No such file or directory", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert list_images(tmp_path) == [tmp_path / "a.jpg", tmp_path / "there/c.jpg"]


def test_folder_that_cannot_be_read_or_has_no_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d"] * 150)
    deep.mkdir(parents=True)
    for count in (list_images, other_files):
        with pytest.raises(CalibrationError, match="folders in more than 100 levels"):
            count(tmp_path)

    def scandir(place: str) -> object:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", scandir)
    for count in (list_images, other_files):
        with pytest.raises(CalibrationError, match=r"Cannot read .*: Permission denied"):
            count(tmp_path)


def test_links_to_folders_are_not_followed_and_links_to_images_are(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "missing")
    assert list_images(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.jpg"]


def test_empty_text_is_no_folder() -> None:
    with pytest.raises(CalibrationError, match="source is ''"):
        CalibrationDataset("")


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5), st.randoms())
def test_a_sample_depends_on_names_and_seed_only(total: int, count: int, seed: int, random) -> None:
    names = [f"{index:03}.jpg" for index in range(total)]
    here = [Path("here") / name for name in names]
    elsewhere = [Path("/some/where/else") / name for name in names]
    random.shuffle(elsewhere)
    chosen = sample(here, count, seed)
    assert [path.name for path in chosen] == [path.name for path in sample(elsewhere, count, seed)]
    assert len(set(chosen)) == len(chosen) == min(count, total)
    assert sample(here, count + 1, seed)[:count] == chosen


def test_another_seed_gives_another_sample() -> None:
    paths = [Path(f"{index}.jpg") for index in range(100)]
    assert len({tuple(sample(paths, 10, seed)) for seed in range(20)}) == 20


def test_the_sample_of_a_seed_never_changes() -> None:
    paths = [Path(f"{index}.jpg") for index in range(10)]
    assert [path.stem for path in sample(paths, 4, 0)] == ["4", "0", "6", "9"]


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(CalibrationError, match="1 or more"):
        sample([Path("a.jpg")], 0, 0)


def test_file_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = b"x" * ((1 << 20) + 3)
    (tmp_path / "a.png").write_bytes(content)
    assert sha256_file(tmp_path / "a.png") == hashlib.sha256(content).hexdigest()


def test_a_described_image_carries_its_name_size_and_hashes(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"bytes")
    image = describe(path, scene(0), tmp_path)
    assert (image.name, image.height, image.width) == ("sub/a.png", 96, 128)
    assert (image.sha256, image.fingerprint) == (sha256_file(path), fingerprint(scene(0)))
    assert describe(path, scene(0)).name == "a.png"


@given(st.integers(0, 1000), st.integers(0, 50))
def test_fingerprint_survives_resizing_and_exposure(seed: int, lift: int) -> None:
    image = scene(seed)
    mark = fingerprint(image)
    assert bits_apart(mark, fingerprint(image + np.uint8(lift))) == 0
    assert bits_apart(mark, fingerprint(image.repeat(2, axis=0).repeat(2, axis=1))) <= Limits().duplicate_distance


def test_fingerprints_of_different_scenes_are_far_apart() -> None:
    marks = [fingerprint(scene(seed)) for seed in range(40)]
    assert min(bits_apart(a, b) for i, a in enumerate(marks) for b in marks[:i]) > 24
    assert near_duplicates(marks, 12) == []


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 255))
def test_fingerprint_of_any_size_is_32_digits_and_zero_without_structure(height: int, width: int, gray: int) -> None:
    assert fingerprint(np.full((height, width, 3), gray, np.uint8)) == "0" * 32


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["gray", "rgba", "float", "empty"],
)
def test_fingerprint_of_what_is_no_rgb_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match="Expected uint8"):
        fingerprint(image)


def test_near_duplicates_chain_through_others_of_their_group() -> None:
    near = [f"{bits:032x}" for bits in (0b0, 0b11, 0b1111, 0b111111)]
    far = [f"{2**128 - 1:032x}", f"{2**64 - 1:032x}"]
    assert near_duplicates([near[0], far[0], near[3], far[1], near[1], near[2], far[0]], 2) == [(0, 2, 4, 5), (1, 6)]


@given(st.lists(st.integers(0, 255), max_size=12), st.integers(0, 3))
def test_near_duplicates_are_the_connected_images(values: list[int], distance: int) -> None:
    groups = [{index} for index in range(len(values))]
    for i, first in enumerate(values):
        for j, second in enumerate(values[:i]):
            if (first ^ second).bit_count() <= distance:
                union = next(g for g in groups if i in g) | next(g for g in groups if j in g)
                groups = [g for g in groups if not g & union] + [union]
    expected = sorted(tuple(sorted(group)) for group in groups if len(group) > 1)
    assert near_duplicates([f"{value:032x}" for value in values], distance) == expected
