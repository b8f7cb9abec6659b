# A fresh machine needs python3 (3.10 or newer, with venv) and make; everything else is set up in $(VENV), once.
#
#   make demo     checkpoint and images -> INT8 bundle -> masks; accuracy and latency of float and INT8 side by side
#   make test     the fast test suite
#   make slow     the tests that train, kill and export at full size, and the property tests with many examples
#   make check    linters, types, import contracts
#   make targets-check    what TensorRT-RTX and Torch-TensorRT say of the graphs, without a GPU, in an environment of its own
#   make gpu-check    what onnxruntime-gpu says on a machine without a GPU, in an environment of its own
#   make ray-check    evaluation and prediction on a local Ray cluster of two workers, in an environment of its own
#   make peers    other quantizers and networks to measure beside, in an environment of its own
#   make fuzz     each reader of files against any bytes, FUZZ_SECONDS for each (60)
#   make docs     the documentation as a searchable site in out/docs; fails on a broken link
#   make wheel    dist/*.whl
#   make clean    remove what the above made; the environments stay
#
#   PYTHON=python3.12       another interpreter
#   PIP_OPTIONS="..."       options of every pip install: a mirror, an index of PyTorch's CPU build, a folder of wheels
#   JOBS=4                  processes of the test suite
#   TESTS=tests/sdk         `make slow`: these files or folders only

PYTHON ?= python3
VENV ?= .venv
TARGETS_VENV ?= .venv-trt
GPU_VENV ?= .venv-gpu
RAY_VENV ?= .venv-ray
PEERS_VENV ?= .venv-peers
PIP_OPTIONS ?=
JOBS ?= 2
TESTS ?=
FUZZ_SECONDS ?= 60

SCENES := examples/homescenes
DEMO := out/demo
PIP_INSTALL = $(VENV)/bin/pip install --disable-pip-version-check --constraint constraints.txt $(PIP_OPTIONS)

# Torch-TensorRT pins TensorRT-RTX 1.6, which builds no INT8 convolution; this one lies before it on the path.
RTX := 1.7.1.116
RTX_PATH := $(TARGETS_VENV)/rtx-$(RTX)

.PHONY: demo test slow check fuzz targets-check gpu-check ray-check peers docs wheel clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	@mkdir -p $(DEMO)
	$(VENV)/bin/blendmask quantize $(SCENES)/lite0_rt.safetensors --license Apache-2.0 \
	  --calibration $(SCENES)/calibration \
	  --eval-images $(SCENES)/evaluation --eval-annotations $(SCENES)/evaluation.json \
	  --output $(DEMO)/lite0_rt.bmz
	$(VENV)/bin/blendmask predict $(DEMO)/lite0_rt.bmz $(SCENES)/evaluation/*00.jpg --output $(DEMO)/overlays

# One thread in each process: PyTorch's own threads would fight for the cores that the processes share. Neighbors stay in
# one process as long as both have work, so that most fixtures are made once. Tests are compiled once and kept.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(VENV)/bin/pytest -n $(JOBS) --dist worksteal

test: $(VENV)/.dev
	$(PYTEST) -m "not slow"

slow: $(VENV)/.dev
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile=thorough $(TESTS)

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

targets-check: $(TARGETS_VENV)/.ready
	PYTHONPATH=$(RTX_PATH) $(TARGETS_VENV)/bin/python -m pytest -rs tests/targets

gpu-check: $(GPU_VENV)/.ready
	$(GPU_VENV)/bin/python -m pytest -rs -p no:cacheprovider tests/targets/test_onnxruntime_gpu.py

ray-check: $(RAY_VENV)/.ready
	$(RAY_VENV)/bin/python -m pytest -rs -p no:cacheprovider tests/sdk/execution/test_ray.py

peers: $(PEERS_VENV)/.ready
	@echo "Type: $(PEERS_VENV)/bin/python -m bench.studies.peers --help"

fuzz: $(VENV)/.fuzz
	$(VENV)/bin/python -m bench.studies.fuzz --seconds $(FUZZ_SECONDS) --output out/fuzz

docs: $(VENV)/.docs
	rm -rf out/docs out/doctrees
	$(VENV)/bin/python -m sphinx -q -W --keep-going -c docs/site -d out/doctrees -b html . out/docs
	@echo "The site is in out/docs; open out/docs/index.html"

wheel: $(VENV)/.dev
	rm -rf dist
	$(VENV)/bin/hatchling build -t wheel -d dist

clean:
	rm -rf out dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo >&2 \
	  "error: $(PYTHON) is missing or older than 3.10. Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo >&2 \
	  "error: $(PYTHON) cannot make virtual environments. Install its venv package, e.g. apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created pyproject.toml constraints.txt
	@test -e $@ || printf '%s\n' \
	  "Installing into $(VENV), once:" \
	  "  torch and torchvision    x86-64: about 3 GB to fetch, 5.5 GB on disk; aarch64: 0.2 GB, 0.7 GB" \
	  "  onnx, onnxruntime, opencv, numpy and what they need    about 0.15 GB to fetch, 0.5 GB on disk" \
	  "PyTorch's CPU build is much smaller and does as well; README.md says how to take it."
	$(PIP_INSTALL) --editable ".[quantize]"
	@touch $@

# They ask for opencv-python, which would overwrite opencv-python-headless; what else they import is in the extra dev.
TRACKING := trackers supervision

$(VENV)/.dev: $(VENV)/.demo
	@echo "Adding the tools of the tests to $(VENV): about 100 MB to fetch"
	$(PIP_INSTALL) --quiet --editable ".[quantize,dev]"
	$(PIP_INSTALL) --quiet --no-deps $(TRACKING)
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "Adding atheris to $(VENV): about 60 MB on disk"
	$(PIP_INSTALL) --quiet --editable ".[quantize,dev,fuzz]"
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	@echo "Adding Sphinx and its theme to $(VENV): about 15 MB to fetch"
	$(PIP_INSTALL) --quiet --editable ".[quantize,docs]"
	@touch $@

# modelopt imports more of ONNX than it asks for without its extra, which pins other versions.
PEERS := nncf nvidia-modelopt ultralytics huggingface_hub requests \
  onnx-graphsurgeon onnxconverter-common onnxslim polygraphy lief cppimport

PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

# An environment that looks into $(VENV) for what it lacks, so that torch is installed once.
define SHARING_VENV
$(VENV)/bin/python -m venv $(1)
	@printf 'import site; site.addsitedir("%s")\n' "$$($(VENV)/bin/python $(PURELIB))" \
	  > "$$($(1)/bin/python $(PURELIB))/shared.pth"
endef

$(TARGETS_VENV)/.ready: $(VENV)/.dev constraints-targets.txt
	@echo "Installing into $(TARGETS_VENV), once: TensorRT-RTX, Torch-TensorRT, modelopt; 0.8 GB on disk"
	$(call SHARING_VENV,$(TARGETS_VENV))
	$(TARGETS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-targets.txt $(PIP_OPTIONS) \
	  torch-tensorrt-rtx tensorrt-rtx-cu13 nvidia-modelopt huggingface_hub requests
	$(TARGETS_VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --no-deps --target $(RTX_PATH) --upgrade \
	  tensorrt-rtx-cu13==$(RTX) tensorrt-rtx-cu13-bindings==$(RTX) tensorrt-rtx-cu13-libs==$(RTX)
	@touch $@

# Some are under other licenses: ultralytics is AGPL-3.0. Nothing of the product is made from them or needs them.
$(PEERS_VENV)/.ready: $(VENV)/.dev constraints-targets.txt
	@echo "Installing into $(PEERS_VENV), once: NNCF, modelopt, ultralytics; 0.3 GB on disk"
	$(call SHARING_VENV,$(PEERS_VENV))
	$(PEERS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-targets.txt $(PIP_OPTIONS) $(PEERS)
	@touch $@

# CUDA itself stays out: that it is missing is what is tested.
$(GPU_VENV)/.ready: $(VENV)/.created constraints-targets.txt
	@echo "Installing into $(GPU_VENV), once: onnxruntime-gpu without CUDA; 0.3 GB to fetch, 0.7 GB on disk"
	$(VENV)/bin/python -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-targets.txt $(PIP_OPTIONS) --editable . onnxruntime-gpu onnx pytest hypothesis
	@touch $@

$(RAY_VENV)/.ready: $(VENV)/.dev constraints-targets.txt
	@echo "Installing into $(RAY_VENV), once: Ray; 80 MB to fetch, 0.3 GB on disk"
	$(call SHARING_VENV,$(RAY_VENV))
	$(RAY_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-targets.txt $(PIP_OPTIONS) ray
	@touch $@
