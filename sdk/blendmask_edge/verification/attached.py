"""Reports of devices in a folder, by target: what `blendmask targets` shows as measured."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence

from blendmask_edge.errors import BaselineError
from blendmask_edge.verification.report import PASSED, SignedReport, read_report
from blendmask_edge.verification.routes import MEASURE, ROUTES

if TYPE_CHECKING:
    from blendmask_edge.bundle.signature import Key
    from blendmask_edge.devices.result import Route
    from blendmask_edge.storage.atomic import PathLike

REPORTS_VARIABLE = "BLENDMASK_REPORTS"
"""Environment variable with the folder of reports."""


def attached_reports(folder: Optional[PathLike], keys: Sequence[Key] = ()) -> Dict[str, List[SignedReport]]:
    """Return the reports of a folder by target, the newest first.

    Args:
        folder: of the JSON files; None takes that of the environment, or none.
        keys: public keys of which one must have signed each; none where no signature is required.

    Raises:
        BaselineError: the folder cannot be read, or a file in it is not a report.
        SignatureError: a signature is wrong, or required and missing.
    """
    place = folder if folder is not None else os.environ.get(REPORTS_VARIABLE)
    if not place:
        return {}
    if not Path(place).is_dir():
        raise BaselineError(f"{place} is not a folder of reports. Give the folder with --reports DIR.")
    reports: Dict[str, List[SignedReport]] = {}
    read = [read_report(file, keys) for file in sorted(Path(place).glob("*.json"))]
    for signed in sorted(read, key=lambda one: one.report.created, reverse=True):
        reports.setdefault(signed.report.target, []).append(signed)
    return reports


def reports_of(bundle: PathLike, reports: Sequence[SignedReport], route: Optional[Route]) -> List[SignedReport]:
    """Return the reports that measured this very bundle by a route, which make an estimate of it needless.

    Args:
        bundle: path of the file.
        reports: of one target, from `attached_reports`.
        route: runtime and precision, as `check` found them; None for none.
    """
    if not reports or route is None:
        return []
    names = [row.name for row in ROUTES if (row.runtime, row.precision) == (route.runtime, route.precision)]
    digest = hashlib.sha256(Path(bundle).read_bytes()).hexdigest()
    return [
        signed
        for signed in reports
        if signed.report.subject.sha256 == digest
        and any(row.status == PASSED for name in names for row in [signed.report.row(name, MEASURE)] if row is not None)
    ]
