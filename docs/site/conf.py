"""The site of `make docs`: the repository's Markdown pages, and the API reference from the docstrings.

The source directory is the root of the repository, so that links between pages work here as they do on its host.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from sphinx.application import Sphinx

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("sdk", "quantize", "calibration")]

project = "blendmask-edge"
copyright = "the authors of blendmask-edge"
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "docs/site/api/*.rst",
    "sdk/README.md",
    "quantize/README.md",
    "calibration/README.md",
    "bench/README.md",
    "bench/baselines/README.md",
    "examples/homescenes/*.md",
    "tests/golden/README.md",
    "tests/recorded/README.md",
]
exclude_patterns = ["out", "dist", "shared"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3
default_role = "code"
html_theme = "furo"
html_title = "blendmask-edge"
html_extra_path = [str(SITE / "extra")]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "friendly"

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
autoclass_content = "both"

suppress_warnings = ["ref.python"]  # an error class that two packages re-export has two homes
nitpicky = True
nitpick_ignore_regex = [
    # The standard library, numpy and torch have no inventory here: the build needs no network.
    (r"py:.*", r"(?!blendmask_)[\w.]+"),
    # "Returns:" sections whose first words end in a colon are prose.
    (r"py:.*", r".* .*"),
    # Modules that are not part of the public API have no page.
    (r"py:.*", r"blendmask_(edge|quantize|calibration)\.[a-z_]+\..*"),
]

NAVIGATION = """
```{toctree}
:hidden:
:caption: Guides
Quantize a checkpoint <docs/quantize>
Predict in your program <docs/embed>
Streams on the robot <docs/robot>
ROS 2 <docs/ros2>
Use the Python API <docs/python>
Select a model <docs/models>
Train your own classes <docs/train>
Export to ONNX <docs/export>
Find sensitive layers, bound the drop <docs/sensitivity>
Visualize bases and attention <docs/visualize>
Detect regressions <docs/benchmark>
Write a report <docs/report>
Compare detections <docs/compare>
Keep a history <docs/history>
Use several processes or a cluster <docs/scale>
Compare with other tools <docs/comparison>
The bundle format <docs/bundle>
```

```{toctree}
:hidden:
:caption: Devices
Check and compile <docs/targets/README>
Verify on a device <docs/verify-device>
x86-64 CPUs <docs/targets/cpu>
ARM CPUs <docs/targets/arm-cpu>
Jetson Orin <docs/targets/orin>
Jetson Thor <docs/targets/thor>
Jetson Xavier <docs/targets/xavier>
Jetson Nano, TX2 <docs/targets/jetson-nano-tx2>
Turing to Blackwell <docs/targets/turing-to-blackwell>
Pascal <docs/targets/pascal>
```

```{toctree}
:hidden:
:caption: API reference
docs/site/api/blendmask_edge
docs/site/api/blendmask_quantize
docs/site/api/blendmask_calibration
```

```{toctree}
:hidden:
:caption: Model and measurements
Model card <examples/homescenes/MODEL_CARD>
Demo images <examples/homescenes/README>
Image authors and licenses <examples/homescenes/ATTRIBUTION>
Measurements <bench/README>
Baselines <bench/baselines/README>
```

```{toctree}
:hidden:
:caption: Development
Contribute <CONTRIBUTING>
blendmask_edge: layout <sdk/README>
blendmask_quantize: layout <quantize/README>
blendmask_calibration: layout <calibration/README>
Golden bundles <tests/golden/README>
Values from AdelaiDet <tests/recorded/README>
Security <SECURITY>
Changelog <CHANGELOG>
All pages <docs/README>
```
"""


def add_navigation(_app: Sphinx, name: str, content: list[str]) -> None:
    """Append the site's navigation to the home page; the Markdown on the host stays free of it."""
    if name == root_doc:
        content[0] += NAVIGATION


def mark_program(_app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Mark the program in a package's docstring as code; pasted from the source, it has no marker."""
    if what == "module" and any(line.startswith("    ") for line in lines):
        lines[1:1] = ["", "::"]


def load_lazy_names() -> None:
    """Set each public name on its package: autodoc sees only what a module already holds."""
    for package in ("blendmask_edge", "blendmask_quantize", "blendmask_calibration"):
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            setattr(module, name, getattr(module, name))


def setup(app: Sphinx) -> None:
    """Connect the hooks of this site."""
    load_lazy_names()
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", mark_program)
