# Sourced by the other scripts: installs the project into the active virtual environment, or into .venv if none is active.
# ensure_environment EXTRAS: EXTRAS is "[all]", "[dev]", "[dev,oracles]", "[dev,oracles,giftless]" or "[docs]".

fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

make_environment() {
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "$python was not found" "install Python 3.10 or newer, or set PYTHON"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version) is too old" "install Python 3.10 or newer, or set PYTHON to it"
    if [ ! -x .venv/bin/pip ]; then
        rm -rf .venv
        "$python" -m venv .venv || fail "the virtual environment cannot be created" "on Debian: apt-get install python3-venv"
    fi
    . .venv/bin/activate
}

ensure_environment() {
    command -v git >/dev/null || fail "git was not found" "on Debian: apt-get install git"
    [ -n "${VIRTUAL_ENV:-}" ] || make_environment
    stamp="$VIRTUAL_ENV/git-theta-ext.installed"
    # What decides what is installed: the configuration, and the sources of the extension.
    key="$PWD $(cat setup.cfg pyproject.toml constraints.txt setup.py git_theta_ext/coding/_*.[ch] | git hash-object --stdin)"
    case $1 in # more extras include it
        "[all]") enough=("[all]" "[dev]" "[dev,oracles]" "[dev,oracles,giftless]" "[docs]") ;;
        "[dev]") enough=("[dev]" "[dev,oracles]" "[dev,oracles,giftless]") ;;
        *) enough=("$1") ;;
    esac
    for done in "${enough[@]}"; do
        if grep -qxF -- "$key $done" "$stamp" 2>/dev/null; then return; fi
    done
    printf 'Installing the project and torch into %s, which takes minutes the first time …\n' "$VIRTUAL_ENV" >&2
    # The exact torch first: a range could bring gigabytes of GPU libraries.
    # The pip of this environment: in one without pip, another Python's would install the project there.
    python -m pip install --quiet -c constraints.txt torch
    python -m pip install --quiet -c constraints.txt -e ".$1"
    grep -qF -- "$key " "$stamp" 2>/dev/null || : >"$stamp"
    printf '%s\n' "$key $1" >>"$stamp"
}
