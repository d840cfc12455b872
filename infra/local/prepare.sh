#!/bin/sh
# Makes .venv with the pinned Python tools, and says in one sentence what this machine lacks.
set -eu
cd "$(dirname "$0")/../.."

lacking() {
    echo "$1" >&2
    exit 1
}

command -v cargo >/dev/null || lacking "Rust is missing: install rustup, then start again."
command -v cc >/dev/null || lacking "A C compiler is missing: install gcc (Debian and Ubuntu) or the Xcode command line tools (macOS), then start again."
command -v python3 >/dev/null || lacking "Python is missing: install Python 3.11 or newer, then start again."
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || lacking "This Python is too old: 3.11 or newer is needed."

if ! python3 -c 'import ensurepip' 2>/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    command -v apt-get >/dev/null || lacking "Python's venv module is missing: install it, then start again."
    echo "Python's venv module is missing: installing python3-venv with apt-get"
    $sudo apt-get -qq update
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install python3-venv >/dev/null
fi

echo "installing the pinned Python tools into .venv"
python3 -m venv --clear .venv
.venv/bin/pip --quiet --disable-pip-version-check install --requirement infra/local/requirements.txt
touch .venv/ready
