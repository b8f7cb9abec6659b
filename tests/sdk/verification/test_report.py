"""A report is read as it was written; what was changed, or is not signed by whom it should be, is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Tuple

import msgspec
import pytest

from blendmask_edge import BaselineError, SignatureError
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.verification.attached import attached_reports
from blendmask_edge.verification.page import measured_lines
from blendmask_edge.verification.report import (
    DeviceReport,
    Gpu,
    Row,
    SignedReport,
    Subject,
    read_report,
    write_report,
)

REPORT = DeviceReport(
    target="jetson-orin-nx",
    title="Jetson Orin NX",
    created="2026-11-30T10:00:00+00:00",
    generator="blendmask-edge 0",
    subject=Subject(bundle="m.bmz", model="TINY", sha256="0" * 64),
    machine=this_machine(),
    gpu=Gpu(name="Orin NX", sm="8.7", driver="12.6/540.3.0"),
    rows=[
        Row(route="tensorrt-int8", part="measure", status="passed", metrics={"mask_ap": 0.75, "latency_p50_ms": 7.25}),
        Row(route="tensorrt-int8", part="soak", status="failed", reason="It hung.", next="Run it again."),
    ],
)


@pytest.fixture
def keys(tmp_path: Path) -> Tuple[Path, Path]:
    """Return the files of a private and a public key."""
    return key_pair(tmp_path, "own")


def key_pair(folder: Path, name: str) -> Tuple[Path, Path]:
    """Write a new pair of keys."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as s

    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert write_report(tmp_path / "report.json", REPORT) == ""
    read = read_report(tmp_path / "report.json")
    assert (read.report, read.signed_by) == (REPORT, "")


def test_signed_report_tells_its_key_and_refuses_a_changed_number(tmp_path: Path, keys: Tuple[Path, Path]) -> None:
    path = tmp_path / "report.json"
    fingerprint = write_report(path, REPORT, keys[0])
    assert read_report(path, [keys[1]]).signed_by == read_report(path).signed_by == fingerprint != ""
    path.write_text(path.read_text().replace("7.25", "6.25"))
    with pytest.raises(SignatureError, match="changed after it was signed"):
        read_report(path)


def test_signature_of_another_key_and_a_missing_one_are_refused(tmp_path: Path, keys: Tuple[Path, Path]) -> None:
    other = key_pair(tmp_path, "other")
    path = tmp_path / "report.json"
    write_report(path, REPORT, other[0])
    with pytest.raises(SignatureError, match="signed by"):
        read_report(path, [keys[1]])
    write_report(path, REPORT)
    with pytest.raises(SignatureError, match="not signed"):
        read_report(path, [keys[1]])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda document: document["report"].update(schema_version=9), "schema version 9.*Upgrade"),
        (lambda document: document["report"]["rows"][0].update(status="splendid"), "splendid"),
        (lambda document: document["report"].pop("machine"), "machine"),
        (lambda document: document.update(signature={"public_key": "zz", "value": ""}), "public_key"),
    ],
)
def test_spoiled_report_is_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, REPORT)
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(BaselineError, match=f"{message}.*" if "Upgrade" in message else message):
        read_report(path)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff\xfe", b"[" * 10_000])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(data)
    with pytest.raises(BaselineError, match="not a valid report"):
        read_report(tmp_path / "report.json")


def test_reports_of_a_folder_are_given_by_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    write_report(folder / "a.json", REPORT)
    assert attached_reports(None) == {}
    monkeypatch.setenv("BLENDMASK_REPORTS", str(folder))
    assert [one.report for one in attached_reports(None)["jetson-orin-nx"]] == [REPORT]
    with pytest.raises(BaselineError, match="not a folder"):
        attached_reports(tmp_path / "missing")


@pytest.mark.parametrize("disturbances", [0, 2])
def test_line_of_a_target_tells_of_a_disturbed_measurement(disturbances: int) -> None:
    measured = msgspec.structs.replace(REPORT.rows[0], metrics={"latency_p50_ms": 7.25, "disturbances": disturbances})
    head, line = measured_lines(SignedReport(report=msgspec.structs.replace(REPORT, rows=[measured])))
    assert head == "Measured on Orin NX, 2026-11-30, m.bmz, not signed:"
    assert line == "  tensorrt-int8: 7.25 p50 ms" + (", disturbed by other work" if disturbances else "")
