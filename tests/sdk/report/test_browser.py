"""Pages open in Chromium: they ask for nothing, fit a phone, and can be read in light and in dark."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from blendmask_edge import compare, write_report
from blendmask_edge.benchmark.gate import Change
from blendmask_edge.benchmark.history import append
from tests.sdk.benchmark.test_history import make_run
from tests.sdk.report.test_api import TIMES, measured

__all__ = ["measured"]
NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("BLENDMASK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
PHONE, DESKTOP = 390, 1280
CONTRAST = 7
"""Of text on its ground, as the highest level of WCAG asks for."""
PROBE = """
<script>
addEventListener("load", () => {
  const fits = element => element.closest(".scroll, svg") || element.getBoundingClientRect().right <= innerWidth + 1;
  const style = getComputedStyle(document.body);
  document.title = JSON.stringify({
    width: innerWidth,
    scrolled: document.documentElement.scrollWidth,
    beyond: [...document.querySelectorAll("main *")].filter(one => !fits(one)).map(one => one.outerHTML),
    requested: performance.getEntriesByType("resource").map(entry => entry.name),
    images: [...document.images].map(image => image.naturalWidth),
    charts: document.querySelectorAll("svg").length,
    ground: style.backgroundColor,
    text: style.color,
  });
});
</script>
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, on the path or in $BLENDMASK_CHROMIUM")
Make = Callable[[Path, Tuple[Path, Path, Path]], Path]


def report_of_a_bundle(folder: Path, made: Tuple[Path, Path, Path]) -> Path:
    bundle, images, annotations = made
    return write_report(bundle, folder / "page.html", images, annotations, runtime="onnxruntime", threads=1, frames=2)


def trend(folder: Path, _: Any) -> Path:
    left = Change("mask_ap", 0.5, 0.4, 0.495, 0.51)
    for day in range(1, 13):
        changes = [left] if day == 7 else []
        run = make_run(day, label=f"a-release-with-a-long-name-{day}", changes=changes, metrics=TIMES)
        append(folder / "history", run)
    return write_report(folder / "history", folder / "page.html")


def comparison(folder: Path, made: Tuple[Path, Path, Path]) -> Path:
    bundle, images, _ = made
    result = compare(f"{bundle}:float", f"{bundle}:cpu", images, runtime="onnxruntime", threads=1)
    return write_report(result, folder / "page.html")


def opened(page: Path, width: int, scheme: str) -> Dict[str, Any]:
    """Open a page in Chromium, and return what the probe sees."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command: List[str] = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--window-size={width},844",
        f"--user-data-dir={page.parent / 'profile'}", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        "--virtual-time-budget=5000", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    return dict(json.loads(html.unescape(title[1])))


def luminance(color: str) -> float:
    """Return the relative luminance of "rgb(r, g, b)"."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("make", [report_of_a_bundle, trend, comparison])
def test_page_asks_for_nothing_fits_a_phone_and_has_contrast_in_light_and_dark(
    make: Make, tmp_path: Path, measured: Tuple[Path, Path, Path]
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = make(tmp_path, measured)
    grounds = {}
    for scheme in ("light", "dark"):
        for width in (PHONE, DESKTOP):
            seen = opened(page, width, scheme)
            assert seen["width"] <= max(width, 500), "a window of Chromium is at least that wide"
            assert seen["scrolled"] <= seen["width"]
            assert seen["beyond"] == []
            assert [name for name in seen["requested"] if not name.startswith("data:")] == []
            assert all(seen["images"])
            assert seen["images"] or seen["charts"]
            ground, text = luminance(seen["ground"]), luminance(seen["text"])
            assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= CONTRAST
            grounds[scheme] = ground
    assert grounds["dark"] < 0.1 < 0.9 < grounds["light"]
