#!/usr/bin/env bash
# Does the SDK run on aarch64, the processor of a Jetson or a Raspberry Pi? It is emulated: Debian's Python for arm64 and the
# wheels for aarch64 run under qemu-user, without root or a container. Predicts images with a bundle, prints how far the
# detections agree with those of this machine, then runs a part of the SDK's tests. On a machine without apt it is skipped.
#
#   .ci/aarch64.sh BUNDLE IMAGE...
#   PLACE=DIR               folder for Python and wheels, kept for the next time (.venv-aarch64)
#   TESTS="tests/sdk/..."   other tests than a few; "" for none
#   PIP_OPTIONS="..."       options of pip download
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD place=${PLACE:-$PWD/.venv-aarch64} bundle=$(realpath "$1")
shift
images=$(realpath "$@")
tests=${TESTS-tests/sdk/imaging/test_masks.py tests/sdk/imaging/test_resize.py tests/sdk/bundle/test_reader.py
  tests/sdk/instances/test_instances.py}
packages="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0
  liblzma5 libsqlite3-0 libuuid1 libgcc-s1 libstdc++6 libgomp1 libcrypt1 libtinfo6 libreadline8"
wheels="numpy pillow simplejpeg msgspec pycocotools typer rich onnxruntime"

command -v apt-get dpkg >/dev/null || { echo "aarch64: no apt here, not checked"; exit; }

# apt with an architecture and folders of its own: nothing of the system is changed.
foreign_apt() {
  apt-get -qq -o APT::Architecture="$1" -o APT::Architectures="$1" -o Dir::State="$place/apt/$1" -o Dir::Cache="$place/apt/$1" \
    -o Dir::State::status=/dev/null -o APT::Sandbox::User="" "${@:2}"
}

fetch() {
  local architecture=$1
  shift
  mkdir -p "$place/apt/$architecture/lists/partial" "$place/apt/$architecture/archives/partial" "$place/debs/$architecture"
  foreign_apt "$architecture" update
  (cd "$place/debs/$architecture" && foreign_apt "$architecture" download "$@")
}

set_up() {
  local deb own
  # shellcheck disable=SC2086  # lists of packages and options
  fetch arm64 $packages
  for deb in "$place"/debs/arm64/*.deb; do dpkg -x "$deb" "$place/root"; done
  if ! command -v qemu-aarch64-static >/dev/null; then
    own=$(dpkg --print-architecture)
    fetch "$own" qemu-user-static
    dpkg -x "$place/debs/$own"/qemu-user-static*.deb "$place/qemu"
  fi
  # Markers are evaluated for this machine's Python, so it must be of the same version.
  # shellcheck disable=SC2086
  .venv/bin/pip install --quiet --disable-pip-version-check --target "$place/site" --upgrade --python-version 3.11 \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux_2_28_aarch64 --implementation cp --abi cp311 --abi abi3 --abi none --only-binary=:all: \
    ${PIP_OPTIONS:-} $wheels pytest hypothesis onnx opencv-python-headless
  # ONNX Runtime reads the processor's text, which must be that of the emulated one.
  mkdir -p "$place/root/proc"
  printf 'processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid %s\n%s\n\n' \
    "asimdrdm lrcpc dcpop asimddp" "CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1" >"$place/root/proc/cpuinfo"
  touch "$place/.ready"
}

emulated() {
  local qemu
  qemu=$(command -v qemu-aarch64-static || echo "$place/qemu/usr/bin/qemu-aarch64-static")
  QEMU_LD_PREFIX="$place/root" PYTHONPATH="$root/sdk:$place/site:$root" OMP_NUM_THREADS=1 \
    "$qemu" -cpu cortex-a76 "$place/root/usr/bin/python3.11" "$@"
}

[ -e "$place/.ready" ] || set_up
emulated -c 'import platform, onnxruntime; print("emulated:", platform.machine(), platform.python_version(), "ONNX Runtime", onnxruntime.__version__)'
start=$SECONDS
# shellcheck disable=SC2086  # a list of files
emulated .ci/detections.py "$bundle" $images >"$place/aarch64.json"
echo "predicted in $((SECONDS - start)) s"
# shellcheck disable=SC2086
PYTHONPATH=sdk .venv/bin/python .ci/detections.py "$bundle" $images >"$place/here.json"
.venv/bin/python .ci/detections.py --compare "$place/here.json" "$place/aarch64.json"
if [ -n "$tests" ]; then
  # shellcheck disable=SC2086
  emulated -m pytest -q -p no:cacheprovider $tests
fi
