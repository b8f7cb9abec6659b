#!/usr/bin/env bash
# Do the real modules of TensorRT have what the SDK calls? For 8.5.3, the TensorRT of JetPack 5.1, and for the lean runtime of
# 11.4, each in an environment of its own under .venv-modules. 8.5.3 has wheels for Python 3.8 to 3.10 on x86-64: without one of
# these it is named, and does not fail. NVIDIA's licenses apply: nothing of it goes into what this repository builds.
#
#   .ci/modules.sh
#   PIP_OPTIONS="..."       options of every pip install
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/find_python.sh
. .ci/find_python.sh

check() {
  local version=$1 python=$2 place=.venv-modules/$1
  shift 2
  if [ ! -e "$place/.ready" ]; then
    "$python" -m venv --clear "$place"
    # shellcheck disable=SC2086  # a list of options
    "$place/bin/pip" install --quiet --disable-pip-version-check --constraint constraints-targets.txt ${PIP_OPTIONS:-} \
      "$@" --editable . pytest hypothesis onnx
    touch "$place/.ready"
  fi
  "$place/bin/python" -m pytest -rs -p no:cacheprovider tests/targets/test_tensorrt_modules.py
}

check 11.4 .venv/bin/python tensorrt-lean-cu12-libs tensorrt-lean-cu12-bindings
for version in 3.10 3.9 3.8; do
  python=$(find_python "$version")
  if [ -n "$python" ] && [ "$(uname -m)" = x86_64 ]; then
    # It asks for cuDNN without a version, and needs 8.
    check 8.5.3 "$python" tensorrt nvidia-cudnn-cu11
    exit
  fi
done
echo "TensorRT 8.5.3: no Python 3.8 to 3.10 on x86-64 here, not checked"
