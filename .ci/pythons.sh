#!/usr/bin/env bash
# Does the SDK install and run on every Python that pyproject.toml promises? For each one that is here, in an environment
# of its own: the wheel with [cpu], `blendmask --help`, a prediction where there is a bundle, and a part of the SDK's
# tests. A version that is missing is named, and does not fail.
#
#   .ci/pythons.sh WHEEL [BUNDLE IMAGE]
#   PYTHONS="3.8 3.13"      other versions than all
#   PIP_OPTIONS="..."       options of every pip install
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD wheel=$(realpath "$1") bundle=${2:-} image=${3:-}
tests="tests/sdk/test_errors.py tests/sdk/test_public_names.py tests/sdk/test_predictor.py tests/sdk/bundle
  tests/sdk/imaging tests/sdk/storage tests/sdk/hardware tests/sdk/runtimes tests/sdk/compilation tests/sdk/cli"

# shellcheck source=.ci/find_python.sh
. .ci/find_python.sh

check() {
  local place=$1 pip="$1/bin/pip install --quiet --disable-pip-version-check ${PIP_OPTIONS:-}"
  $pip "$wheel[cpu]"
  cd "$place"
  bin/blendmask --help >/dev/null
  bin/python -c 'import blendmask_edge; [getattr(blendmask_edge, name) for name in blendmask_edge.__all__]'
  if [ -n "$bundle" ]; then
    bin/python "$root/.ci/sdk_alone.py" "$(realpath "$root/$bundle")" "$(realpath "$root/$image")"
  fi
  cd "$root"
  $pip pytest hypothesis onnx opencv-python-headless  # by which tests write images
  # shellcheck disable=SC2086  # a list of folders
  "$place/bin/python" -m pytest -q -x -p no:cacheprovider $tests
}

failed=""
for version in ${PYTHONS:-3.8 3.9 3.10 3.11 3.12 3.13}; do
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    echo "Python $version: not on this machine, not checked"
    continue
  fi
  start=$SECONDS place=$(mktemp -d)
  "$python" -m venv "$place"
  if (set -e; check "$place") >"$place/log" 2>&1; then
    echo "Python $version: passed in $((SECONDS - start)) s: $(tail -n 1 "$place/log")"
  else
    failed="$failed $version"
    echo "Python $version: FAILED"
    tail -n 40 "$place/log"
  fi
  rm -rf "$place"
done
[ -z "$failed" ] || { echo "Failed on Python$failed"; exit 1; }
