#!/bin/sh
# Install the Debian packages that the tests and the benchmarks use: real clients and servers, and the Go library that
# ours is held against. Only what is missing; `apt-get update` runs only then.
#
# Without root or apt-get it says what is missing and goes on: tests that need it fail, and say so.
set -eu

PATH=$PATH:/usr/sbin:/sbin
missing=''

command_from() { # command_from COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

folder_from() { # folder_from GLOB PACKAGE
    for path in $1; do
        [ -e "$path" ] && return
    done
    missing="$missing $2"
}

command_from curl curl
command_from git git
command_from nginx nginx-light
command_from chromium chromium
command_from go golang-go
command_from node nodejs
command_from npm npm
command_from psql postgresql-client
folder_from '/usr/lib/postgresql/*/bin/postgres' postgresql
# The server without what would start one by itself.
command_from mariadbd mariadb-server-core
command_from mariadb mariadb-client-core
# Of Redis the package that starts no server: its redis-check-rdb is the server, by another name.
command_from redis-check-rdb redis-tools
folder_from /usr/share/gocode/src/github.com/hashicorp/yamux golang-github-hashicorp-yamux-dev
folder_from /usr/share/gocode/src/github.com/gorilla/websocket golang-github-gorilla-websocket-dev
command_from wrk wrk
[ "${1-}" != peers ] || command_from sshd openssh-server # starts a server by itself, so only who asks gets it

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "homeport: not a Debian machine; tests that need these fail:$missing" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "homeport: tests that need these Debian packages fail without them: sudo apt-get install$missing" >&2
    exit 0
fi

echo "homeport: installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update
# $missing is a list of words.
# shellcheck disable=SC2086
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing
