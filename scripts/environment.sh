# shellcheck shell=bash
# Sourced by the other scripts: goes to the project's root, and makes the virtual environment once.
#
#   install requirements.txt [...]   install locked packages, unless these very locks already are
#   install_stand_in                 those of the stand-in for ComfyUI, unless a real one is named

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '%s\n' "$*" >&2; }

supported() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if supported "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  say "Python 3.11 or later is needed; found: $(python3 --version 2>&1 || true). Install one, or name it: PYTHON=/path/to/python3 $0"
  return 1
}

make_environment() {
  local python
  python=$(find_python) || exit 1
  rm -rf .venv
  "$python" -m venv .venv >&2 || {
    rm -rf .venv
    say "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"
    exit 1
  }
}

install() {
  local lock digest log marker
  supported .venv/bin/python || make_environment
  for lock in "$@"; do
    digest=$(.venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$lock")
    marker=.venv/installed-${lock//\//-}
    [[ -f $marker && $(<"$marker") == "$digest" ]] && continue
    say "Installing $lock into .venv (once, a minute or so) ..."
    log=.venv/install.log
    # The locks name every package with its hashes, so there is nothing left to resolve.
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r "$lock" >"$log" 2>&1 || {
      tail -n 15 "$log" >&2
      say "Installing $lock failed; the whole log is in $PWD/$log"
      exit 1
    }
    printf '%s' "$digest" >"$marker"
  done
}

install_stand_in() {
  [[ -n ${COMFYUI_PATH:-}${COMFY_HOST:-} ]] || install src/local_comfyui/requirements.txt
}
