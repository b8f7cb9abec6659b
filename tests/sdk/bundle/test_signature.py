"""A signed bundle opens with its key and no other; one byte of change, another key or no signature is refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge import (
    Bundle,
    BundleError,
    ConfigError,
    DependencyError,
    MaskPredictor,
    OutputError,
    SignatureError,
    check,
    require_signature,
    sign_bundle,
)
from blendmask_edge.bundle.signature import required_keys
from blendmask_edge.cli.app import app
from tests.sdk.bundle.signing_keys import write_keys

pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519", reason="needs blendmask-edge[sign]")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """Return a private and a public key."""
    return write_keys(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """Return another pair."""
    return write_keys(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture
def signed(bundle_path: Path, keys: Tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a signed bundle."""
    sign_bundle(bundle_path, keys[0], tmp_path / "signed.bmz")
    return tmp_path / "signed.bmz"


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


def test_signed_bundle_opens_with_its_key_and_without_one(signed: Path, bundle_path: Path, keys: Any) -> None:
    for public_key in (None, keys[1], str(keys[1]), keys[1].read_bytes(), [keys[1]]):
        opened = Bundle.open(signed, public_key)
        assert opened.manifest == Bundle.open(bundle_path).manifest
        assert opened.graph("cpu") == Bundle.open(bundle_path).graph("cpu")


def test_another_key_and_a_missing_signature_are_refused(
    signed: Path, bundle_path: Path, keys: Any, other: Any
) -> None:
    with pytest.raises(SignatureError, match=r"was not signed by [0-9a-f]{16}"):
        Bundle.open(signed, other[1])
    with pytest.raises(SignatureError, match="is not signed"):
        Bundle.open(bundle_path, keys[1])
    with pytest.raises(SignatureError):
        MaskPredictor(bundle_path, public_key=keys[1])


def test_keys_are_rotated_by_accepting_the_old_and_the_new_one(signed: Path, keys: Any, other: Any) -> None:
    Bundle.open(signed, [other[1], keys[1]])
    sign_bundle(signed, other[0])
    Bundle.open(signed, [other[1], keys[1]])
    with pytest.raises(SignatureError):
        Bundle.open(signed, [keys[1]])


def rewritten(path: Path, target: Path, **changes: bytes) -> Path:
    """Copy a bundle with members replaced."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, changes.get(name.partition(".")[0], source.read(name)))
    return target


def test_changed_manifest_graph_or_signature_is_refused(signed: Path, keys: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(signed) as archive:
        manifest, signature = archive.read("manifest.json"), archive.read("signature")
        graph = archive.read("cpu.onnx")
    assert len(signature) == 64
    better = manifest.replace(b'"mask_ap": 0.25', b'"mask_ap": 0.99')
    assert better != manifest
    for changes in ({"manifest": better}, {"signature": signature[:-1]}, {"signature": bytes(64)}, {"signature": b""}):
        with pytest.raises(SignatureError):
            Bundle.open(rewritten(signed, tmp_path / "changed.bmz", **changes), keys[1])
    changed = bytearray(graph)
    changed[len(changed) // 2] ^= 1
    opened = Bundle.open(rewritten(signed, tmp_path / "changed.bmz", cpu=bytes(changed)), keys[1])
    with pytest.raises(BundleError, match="hash"):
        opened.graph("cpu")


def test_environment_requires_a_signature_everywhere(
    signed: Path, bundle_path: Path, keys: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLENDMASK_PUBLIC_KEY", os.pathsep.join([str(other[1]), str(keys[1])]))
    Bundle.open(signed)
    with pytest.raises(SignatureError):
        Bundle.open(bundle_path)
    assert call("info", bundle_path).exit_code == 1
    assert call("info", signed).exit_code == 0
    monkeypatch.setenv("BLENDMASK_PUBLIC_KEY", "/no/such.pem")
    with pytest.raises(ConfigError, match=r"/no/such\.pem"):
        Bundle.open(signed)


def test_copy_in_another_process_requires_the_signature_too(
    signed: Path, bundle_path: Path, keys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(keys[1].parent)
    with MaskPredictor(signed, "onnxruntime", threads=1, public_key=keys[1].name) as predictor:
        packed = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path)
    with pickle.loads(packed) as again:
        assert len(again(np.full((32, 48, 3), 255, np.uint8))) == 3
    signed.write_bytes(bundle_path.read_bytes())
    with pytest.raises(SignatureError):
        pickle.loads(packed)


def test_commands_sign_verify_and_require(bundle_path: Path, keys: Any, other: Any, tmp_path: Path) -> None:
    signed, image = tmp_path / "signed.bmz", Path(__file__).parents[3] / "docs/masks.jpg"
    assert call("verify", bundle_path, "--key", keys[1]).exit_code == 1
    result = call("sign", bundle_path, "--key", keys[0], "-o", signed)
    assert result.exit_code == 0, result.output
    assert f"Signed {signed}" in result.output
    result = call("verify", signed, "--key", other[1], "--key", keys[1])
    assert result.exit_code == 0, result.output
    assert call("verify", signed, "--key", other[1]).exit_code == 1
    required = ("predict", signed, image, "-o", tmp_path / "out", "--require-signature")
    assert call(*required, other[1]).exit_code == 1
    assert not (tmp_path / "out").exists()
    assert call(*required, keys[1]).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("info", "BUNDLE"),
        ("check", "BUNDLE", "--target", "jetson-orin-nano"),
        ("compile", "BUNDLE", "--target", "jetson-orin-nano"),
        ("targets", "jetson-orin-nano", "--estimate", "BUNDLE"),
        (
            "bench",
            "BUNDLE",
            "--images",
            "FOLDER",
            "--annotations",
            "FOLDER/one.json",
            "--runtime",
            "onnxruntime",
            "--frames",
            "1",
        ),
        ("compare", "BUNDLE", "BUNDLE", "--images", "FOLDER"),
        ("report", "BUNDLE", "-o", "FOLDER/page.html"),
        (
            "verify-device",
            "BUNDLE",
            "--images",
            "FOLDER",
            "--output",
            "FOLDER/out",
            "--route",
            "cpu-int8",
            "--frames",
            "1",
            "--soak",
            "0",
        ),
        ("evaluate", "BUNDLE", "--images", "FOLDER", "--annotations", "FOLDER/one.json"),
    ],
    ids=lambda words: words[0],
)
def test_each_command_that_opens_a_bundle_requires_the_signature(
    words: Any, signed: Path, bundle_path: Path, keys: Any, other: Any, tmp_path: Path
) -> None:
    if words[0] == "evaluate":
        pytest.importorskip("blendmask_quantize.api.evaluate")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    images = [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}]
    categories = [{"id": number, "name": name} for number, name in ((10, "red"), (20, "green"), (35, "blue"))]
    entry = {"id": 1, "image_id": 1, "category_id": 10, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0,
             "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}  # fmt: skip
    document = {"images": images, "annotations": [entry], "categories": categories}
    (tmp_path / "one.json").write_text(json.dumps(document), encoding="utf-8")

    def said(bundle: Path, key: Path) -> str:
        typed = [word.replace("BUNDLE", str(bundle)).replace("FOLDER", str(tmp_path)) for word in words]
        return " ".join(call(*typed, "--require-signature", key).output.split())

    assert "was not signed by" in said(signed, other[1])
    assert "is not signed" in said(bundle_path, keys[1])
    assert "not signed" not in said(signed, keys[1])
    assert not required_keys(None)


def test_block_requires_a_signature_of_whatever_opens_a_bundle(
    signed: Path, bundle_path: Path, keys: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    with require_signature([keys[1]]):
        with pytest.raises(SignatureError):
            check(bundle_path, "jetson-orin-nano")
        with MaskPredictor(signed, "onnxruntime", threads=1) as predictor:
            packed = pickle.dumps(predictor)
        Bundle.open(bundle_path, public_key=())
    check(bundle_path, "jetson-orin-nano")
    signed.write_bytes(bundle_path.read_bytes())
    with pytest.raises(SignatureError):
        pickle.loads(packed)
    for wrong in ([], tmp_path / "none.pem"):
        with pytest.raises(ConfigError), require_signature(wrong):
            pass


def test_encrypted_key_takes_its_password_from_the_environment(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path, "locked", b"secret")
    with pytest.raises(ConfigError, match=r"locked\.pem"):
        sign_bundle(bundle_path, private, tmp_path / "signed.bmz")
    monkeypatch.setenv("BLENDMASK_KEY_PASSWORD", "secret")
    sign_bundle(bundle_path, private, tmp_path / "signed.bmz")
    Bundle.open(tmp_path / "signed.bmz", public)


def test_wrong_keys_files_and_places_are_one_message(bundle_path: Path, keys: Any, tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_bytes(b"-----BEGIN JUNK-----")
    before = bundle_path.read_bytes()
    for key in (tmp_path / "none.pem", tmp_path / "junk.pem", keys[1], b""):
        with pytest.raises(ConfigError):
            sign_bundle(bundle_path, key)
    for key in (tmp_path / "none.pem", tmp_path / "junk.pem", keys[0], b"", 7):
        with pytest.raises(ConfigError):
            Bundle.open(bundle_path, key)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            MaskPredictor(bundle_path, public_key=key)  # type: ignore[arg-type]
    with pytest.raises(BundleError):
        sign_bundle(tmp_path / "junk.pem", keys[0])
    with pytest.raises(OutputError):
        sign_bundle(bundle_path, keys[0], tmp_path / "none/signed.bmz")
    assert bundle_path.read_bytes() == before


def test_missing_library_is_named(bundle_path: Path, keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(DependencyError, match=r"pip install .*(sign|cryptography)"):
        Bundle.open(bundle_path, keys[1])
