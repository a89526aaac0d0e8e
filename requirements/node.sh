#!/bin/sh
# Install what the tests take from the npm registry: the OpenID provider that sign-in is held against, by its lock file,
# into tests/oidc/node_modules. No script of a package is run. Only when the lock file is newer than what is there.
#
# Without npm it says what is missing and goes on: tests that need it fail, and say so.
set -eu

folder=$(dirname "$0")/../tests/oidc
stamp=$folder/node_modules/.package-lock.json

if [ -e "$stamp" ] && [ ! "$folder/package-lock.json" -nt "$stamp" ]; then
    exit 0
fi
if ! command -v npm >/dev/null 2>&1; then
    echo "homeport: npm is missing; tests of sign-in that need an OpenID provider fail (Debian: apt-get install npm)" >&2
    exit 0
fi
echo "homeport: installing an OpenID provider for the tests of sign-in"
npm --prefix "$folder" ci --ignore-scripts --no-audit --no-fund --loglevel=error
touch "$stamp"
