"""psql through `homeport forward`, PostgreSQL on a Unix socket as the device's service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.stage import Workshop
from tests.stack.forward import Forward, forward
from tests.stack.installation import Installation
from tests.stack.tools import tool


@pytest.fixture(scope="module")
def forwarded(installation: Installation, workshop: Workshop) -> Iterator[Forward]:
    """The database on a local port."""
    with forward(installation, workshop.name, "postgres") as running:
        yield running


def psql(to: Forward, *statements: str, stdin: str | None = None) -> str:
    command = [tool("psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", to.host, "-p", str(to.port)]
    command += ["-U", "postgres", *(part for statement in statements for part in ("-c", statement))]
    environment = {"PATH": os.environ["PATH"], "PGCONNECT_TIMEOUT": "30"}
    result = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_query_is_answered(forwarded: Forward) -> None:
    assert psql(forwarded, "SELECT 40 + 2") == "42"


def test_100_000_rows_go_in_by_copy_and_come_out_the_same(forwarded: Forward) -> None:
    rows = "".join(f"{number}\t{number * 7919 % 1_000_003}\n" for number in range(100_000))
    psql(forwarded, "CREATE TABLE numbers (id integer PRIMARY KEY, value integer)")
    psql(forwarded, "COPY numbers FROM STDIN", stdin=rows)
    assert psql(forwarded, "COPY (SELECT * FROM numbers ORDER BY id) TO STDOUT") + "\n" == rows


def test_each_connection_is_a_session_of_its_own(forwarded: Forward) -> None:
    assert len({psql(forwarded, "SELECT pg_backend_pid()") for _ in range(3)}) == 3
