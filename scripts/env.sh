# Sourced by the other scripts: makes or reuses .venv with what `$1` (an extra of pyproject.toml) needs.
# A second run finds the stamp of the same pyproject.toml and goes on at once.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prepare() {
    local extra="$1" python="${PYTHON:-python3}" stamp wanted
    stamp=".venv/.installed-$extra"
    if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
        echo "error: Python 3.10 to 3.13 is needed, found $("$python" --version); set PYTHON=/path/to/python3.x" >&2
        exit 2
    fi
    wanted="$("$python" -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')"
    if [ ! -x .venv/bin/python ]; then
        echo "making .venv (the first time takes a few minutes: torch is large)" >&2
        "$python" -m venv .venv || { echo "error: no venv; on Debian: apt-get install python3-venv" >&2; exit 2; }
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "installing the project and its dependencies …" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]" >&2 || {
            echo "error: installing failed; is a package registry reachable?" >&2
            exit 3
        }
        echo "$wanted" >"$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
