# shellcheck shell=bash
# Sourced by the other scripts: creates the virtual environment if needed and activates it.
#
#   MMVG_FAMILY  openmmlab (default) or onedl: which extra brings MMDetection
#   MMVG_VENV    folder of the environment, relative to the repository (default .venv)
#   MMVG_PYTHON  interpreter to create it with (default: the first Python >= 3.10 found)
#   MMVG_TORCH   pip requirements for torch and torchvision, e.g. of another CUDA build
#
# A stamp with a checksum of what was asked for is written last, so an installation that was
# interrupted is taken up again, and one that is complete costs nothing.

mmvg_fail() {
  echo "mmvg set-up: $*" >&2
  exit 1
}

mmvg_find_python() {
  local candidate
  for candidate in ${MMVG_PYTHON:-python3.11 python3.12 python3.10 python3.13 python3 python}; do
    # Version managers leave names on PATH that do not run, so each one is tried.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  mmvg_fail "no Python >= 3.10 found (tried ${MMVG_PYTHON:-python3.10 to 3.13, python3, python});" \
    "install one, or name it: MMVG_PYTHON=/path/to/python"
}

mmvg_create_venv() {
  local python
  python=$(mmvg_find_python) || exit 1
  echo "mmvg set-up: creating $VENV with $python"
  "$python" -m venv --clear "$VENV" || mmvg_fail "$python cannot create a virtual environment;" \
    "on Debian and Ubuntu: apt install python3-venv"
}

# Prints torch and torchvision as pip requirements, or fails if one of them cannot be imported.
mmvg_torch_pins() {
  "$VENV/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version
import torch, torchvision
for name in ('torch', 'torchvision'):
    print(f'{name}=={version(name)}')
PYTHON
}

# The downloads are large, so one that breaks off is tried again.
mmvg_pip() {
  local attempt
  for attempt in 1 2 3; do
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@" && return
    ((attempt < 3)) && sleep 5
  done
  return 1
}

mmvg_install() {
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || mmvg_create_venv
  # The two families install the same files, so one environment can only ever hold one of them.
  local owner="$VENV/mmvg-family"
  if [[ -e $owner && $(<"$owner") != "$FAMILY" ]]; then
    mmvg_fail "$VENV holds the family $(<"$owner"); use MMVG_VENV=.venv-$FAMILY or delete $VENV"
  fi
  echo "$FAMILY" >"$owner"
  if [[ -n ${MMVG_TORCH:-} ]] || ! mmvg_torch_pins >/dev/null; then
    local torch=${MMVG_TORCH:-torch==2.14.1 torchvision==0.29.1}
    echo "mmvg set-up: installing $torch (some minutes)"
    # shellcheck disable=SC2086  # one word per requirement or option
    mmvg_pip $torch || mmvg_fail "could not install $torch; run the command again to go on," \
      'or choose another build with MMVG_TORCH'
  fi
  # The constraints keep the resolver from exchanging this build of torch for another.
  mmvg_torch_pins >"$VENV/mmvg-constraints.txt" ||
    mmvg_fail "torch or torchvision cannot be imported by $VENV/bin/python"
  echo "mmvg set-up: installing mmvg[$FAMILY,clip,video,test]"
  mmvg_pip -c "$VENV/mmvg-constraints.txt" -e ".[$FAMILY,clip,video,test]" ||
    mmvg_fail "could not install mmvg[$FAMILY,clip,video,test]; run the command again to go on"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
FAMILY=${MMVG_FAMILY:-openmmlab}
VENV=${MMVG_VENV:-.venv}
[[ $FAMILY == openmmlab || $FAMILY == onedl ]] ||
  mmvg_fail "MMVG_FAMILY is '$FAMILY'; choose openmmlab or onedl"

mmvg_stamp="$VENV/mmvg-stamp"
mmvg_wanted="$FAMILY ${MMVG_TORCH:-} $(cksum <pyproject.toml) $PWD"
if [[ ! -x $VENV/bin/python || ! -e $mmvg_stamp || $(<"$mmvg_stamp") != "$mmvg_wanted" ]]; then
  rm -f "$mmvg_stamp"
  mmvg_install
  echo "$mmvg_wanted" >"$mmvg_stamp"
fi
# shellcheck disable=SC1091
source "$VENV/bin/activate"
