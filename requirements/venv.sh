#!/bin/sh
# Make the virtual environment DIR with the newest Python from 3.11 on that this machine has.
#
#   requirements/venv.sh DIR          PYTHON=/path/to/python overrides the search
#
# Debian splits `venv` from Python: as root it is installed, otherwise the message says what to type.
set -eu

directory=$1

has() { # has PYTHON EXPRESSION: whether that Python starts and the expression holds
    "$1" -c "import sys; sys.exit(0 if $2 else 1)" >/dev/null 2>&1
}

found=''
without_venv=''
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python3.14}; do
    has "$candidate" 'sys.version_info >= (3, 11)' || continue
    if has "$candidate" '__import__("ensurepip") and __import__("venv")'; then
        found=$candidate
        break
    fi
    without_venv=${without_venv:-$candidate}
done

if [ -z "$found" ] && [ -z "$without_venv" ]; then
    echo "homeport: needs Python 3.11 or newer; tried: ${PYTHON:-python3.13 python3.12 python3.11 python3 python3.14}." >&2
    echo "homeport: install one (Debian: apt-get install python3 python3-venv), or name it: make install PYTHON=/path/to/python" >&2
    exit 1
fi

if [ -z "$found" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "homeport: $without_venv has no venv module; installing Debian's python$version-venv" >&2
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "python$version-venv" >&2
        found=$without_venv
    else
        echo "homeport: $without_venv has no venv module; install it (Debian: apt-get install python$version-venv)" >&2
        exit 1
    fi
fi

echo "homeport: making $directory with $("$found" --version)"
"$found" -m venv --clear "$directory"
