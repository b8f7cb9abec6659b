# Prints the interpreter of a version such as 3.10, or nothing: find_python 3.10
#
# A name on the path may be pyenv's, which only prints a hint; so it must run.
find_python() {
  local candidate
  for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python "python$1"; do
    if "$candidate" -c 'import sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != "'"$1"'")' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}
