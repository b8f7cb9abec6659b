"""Verify a bundle on this device from beginning to end: what `blendmask verify-device` does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence

import msgspec

from blendmask_edge.arguments.values import check_count, check_number
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.measure import MOST_FRAMES
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.bundle.signature import Key, load_key, required_pems
from blendmask_edge.devices.table import Target, load_table
from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.cuda import find_gpu
from blendmask_edge.imaging.folder import images_in
from blendmask_edge.report.write import write_page
from blendmask_edge.runtimes.registry import SessionOptions
from blendmask_edge.storage.atomic import check_writable, output_error
from blendmask_edge.verification.availability import absence, find_target, toolchains
from blendmask_edge.verification.images import open_images
from blendmask_edge.verification.job import PARTS_FOLDER, Job, write_json
from blendmask_edge.verification.lock import locked
from blendmask_edge.verification.page import report_page
from blendmask_edge.verification.process import launch as launch_process
from blendmask_edge.verification.report import (
    ABSENT,
    LEFT,
    PASSED,
    SKIPPED,
    DeviceReport,
    Gpu,
    Row,
    Subject,
    write_report,
)
from blendmask_edge.verification.routes import AGREEMENT, BUILD, MEASURE, ROUTES, Route
from blendmask_edge.verification.state import power_state

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

    Launch = Callable[[Job, Route, str, float], Row]
    OnRow = Callable[[Row, bool], None]

REPORT, PAGE = "report.json", "report.md"
LIMIT_SECONDS = 1800.0
SOAK_SECONDS = 60.0
_MOST_SECONDS = 1e6


@dataclass(frozen=True)
class Request:
    """The verification to run.

    bundle, images: the .bmz file, and a folder of images.   annotations: their COCO JSON, None measures no accuracy.
    output: folder of the report, in which a later call goes on.   target: this device; None finds it.   routes: names
    of those to try; none tries all.   key: Ed25519 private key in PEM format that signs the report.   frames, threads:
    as `blendmask bench` takes them.   soak_seconds: of steady work on each route.   limit_seconds: for each part.
    """

    bundle: PathLike
    images: PathLike
    annotations: Optional[PathLike]
    output: PathLike
    target: Optional[str] = None
    routes: Sequence[str] = ()
    key: Optional[Key] = None
    frames: int = 200
    threads: Optional[int] = None
    soak_seconds: float = SOAK_SECONDS
    limit_seconds: float = LIMIT_SECONDS


@dataclass(frozen=True)
class Outcome:
    """The report, its file and its page, and the fingerprint of the key that signed it; empty without a key."""

    report: DeviceReport
    path: Path
    page: Path
    signed_by: str


def verify_device(request: Request, launch: Launch = launch_process, on_row: Optional[OnRow] = None) -> Outcome:
    """Try each route, part by part, and write the report; what cannot work is refused before the long part.

    Args:
        request: what to verify.
        launch: runs a part, within a number of seconds, and returns its row.
        on_row: told each row, and whether it was kept from an earlier call.

    Raises:
        ConfigError: an argument is wrong, several targets have the GPU of this machine, or another call works in the
            folder.
        BundleError: the bundle is not valid.
        AnnotationError, ImageError, SourceError: the images cannot be used.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: the user interrupts; the message says how to go on.
    """
    _check_numbers(request)
    bundle, target = Bundle.open(request.bundle), find_target(load_table(), request.target)
    if request.key is not None:
        load_key(request.key, "private")
    routes = _routes(request.routes)
    job = _job(request, target)
    images = len(open_images(job, bundle.manifest).ids)
    folder = Path(request.output)
    _prepare(folder)
    with locked(folder):
        run = _Run(job, bundle, target, launch, on_row, request.limit_seconds)
        report = run.report(_all_rows(run, routes, folder), images)
        signed_by = write_report(folder / REPORT, report, request.key)
        write_page(report_page(report, signed_by), folder / PAGE)
    return Outcome(report, folder / REPORT, folder / PAGE, signed_by)


class _Run:
    """Goes through the parts of routes, and keeps what an earlier call measured."""

    def __init__(
        self, job: Job, bundle: Bundle, target: Target, launch: Launch, on_row: Optional[OnRow], limit_seconds: float
    ) -> None:
        self._gpu = find_gpu()
        self._versions = toolchains(self._gpu)
        self._job, self._bundle, self._target = job, bundle, target
        self._launch, self._on_row, self._limit = launch, on_row, limit_seconds
        self._key = job.key(self._versions)
        self._done: Dict[str, Dict[str, Row]] = {}

    def report(self, rows: List[Row], images: int) -> DeviceReport:
        """Return the report of these rows."""
        job, gpu = self._job, self._gpu if self._target.kind != "cpu" else None
        return DeviceReport(
            target=self._target.name,
            title=self._target.title,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            generator=f"blendmask-edge {self._versions.get('blendmask-edge', 'unknown')}",
            subject=Subject(bundle=Path(job.bundle).name, model=self._bundle.manifest.model, sha256=job.bundle_sha256),
            machine=this_machine(),
            gpu=Gpu(name=gpu.name, sm=gpu.sm, driver=gpu.driver) if gpu is not None else None,
            toolchains=self._versions,
            power=power_state(),
            data=Path(job.annotations or job.images).name,
            images=images,
            rows=rows,
        )

    def rows(self, route: Route) -> Iterator[Row]:
        """Yield the rows of a route; where it cannot be tried, one with the reason."""
        absent = absence(route, self._bundle, self._target, self._gpu)
        if absent is not None:
            row = Row(route=route.name, part=route.parts[0], status=ABSENT, reason=absent.reason, next=absent.next)
            self._done[route.name] = {row.part: row}
            self._tell(row, False)
            yield row
            return
        done = self._done.setdefault(route.name, {})
        for part in route.parts:
            missing = self._missing(route, part)
            kept = None if missing else self._kept(route, part)
            row = missing or kept or self._measure(route, part)
            done[part] = row
            self._tell(row, kept is not None)
            yield row

    def _tell(self, row: Row, was_kept: bool) -> None:
        if self._on_row is not None:
            self._on_row(row, was_kept)

    def _missing(self, route: Route, part: str) -> Optional[Row]:
        """Return the row of a part that cannot be done for want of another one; None where nothing is missing."""
        done, reference = self._done[route.name], str(route.reference)
        needed = [(route.name, BUILD, done)] if BUILD in route.parts and part != BUILD else []
        if part == AGREEMENT:
            needed += [(route.name, MEASURE, done), (reference, MEASURE, self._done.get(reference, {}))]
        for name, before, rows in needed:
            earlier = rows.get(before)
            if earlier is None or earlier.status not in (PASSED, LEFT):
                is_absent = earlier is not None and earlier.status == ABSENT
                return Row(
                    route=route.name,
                    part=part,
                    status=SKIPPED,
                    reason=f"{name} {before} {'is not available' if is_absent else 'did not pass'}",
                    next=earlier.next if earlier is not None else "",
                )
        return None

    def _kept(self, route: Route, part: str) -> Optional[Row]:
        """Return the row of an earlier call of the same job; a comparison is made again, since it is cheap."""
        if part == AGREEMENT:
            return None
        try:
            if self._job.part_file(route.name, part, "key").read_text() != self._key:
                return None
            row = msgspec.json.decode(self._job.part_file(route.name, part).read_bytes(), type=Row)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        return row if row.status in (PASSED, LEFT) else None

    def _measure(self, route: Route, part: str) -> Row:
        key = self._job.part_file(route.name, part, "key")
        key.unlink(missing_ok=True)
        row = self._launch(self._job, route, part, self._limit)
        write_json(self._job.part_file(route.name, part), row)
        if row.status in (PASSED, LEFT):
            key.write_text(self._key)
        return row


def _all_rows(run: _Run, routes: Sequence[Route], folder: Path) -> List[Row]:
    rows: List[Row] = []
    try:
        for route in routes:
            rows.extend(run.rows(route))
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; the parts that are done are kept in {folder}. Type the same command again: it goes on with "
            "the others."
        ) from error
    return rows


def _routes(names: Sequence[str]) -> List[Route]:
    """Return the routes of these names with the references that they need, in the order of the table."""
    known = {route.name: route for route in ROUTES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"Unknown route {unknown[0]!r}; known: {', '.join(known)}.")
    wanted = set(names or known)
    wanted |= {str(known[name].reference) for name in wanted if known[name].reference}
    return [route for route in ROUTES if route.name in wanted]


def _check_numbers(request: Request) -> None:
    check_count("frames", request.frames, MOST_FRAMES)
    SessionOptions(request.threads)
    check_number("soak_seconds", request.soak_seconds, 0, _MOST_SECONDS)
    check_number("limit_seconds", request.limit_seconds, 0, _MOST_SECONDS)


def _job(request: Request, target: Target) -> Job:
    bundle = Path(request.bundle).absolute()
    annotations = None if request.annotations is None else str(Path(request.annotations).absolute())
    return Job(
        bundle=str(bundle),
        bundle_sha256=hashlib.sha256(bundle.read_bytes()).hexdigest(),
        target=target.name,
        images=str(Path(request.images).absolute()),
        annotations=annotations,
        data_sha256=_data_digest(Path(request.images), annotations),
        folder=str(Path(request.output).absolute()),
        frames=request.frames,
        soak_seconds=request.soak_seconds,
        threads=request.threads,
        public_keys=required_pems(),
    )


def _data_digest(images: Path, annotations: Optional[str]) -> str:
    """Return the digest of the annotations, or of the names and sizes of the images."""
    if annotations is not None and Path(annotations).is_file():
        return hashlib.sha256(Path(annotations).read_bytes()).hexdigest()
    listed = [f"{file.name} {file.stat().st_size}" for file in images_in(images)] if annotations is None else []
    return hashlib.sha256("\n".join(listed).encode(errors="surrogateescape")).hexdigest()


def _prepare(folder: Path) -> None:
    """Make the folder, and see that the report can be written there."""
    try:
        (folder / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    check_writable(folder / REPORT)
