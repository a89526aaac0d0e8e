"""Which group an object file belongs to."""

from __future__ import annotations

import pytest

from tests.bench.shares import group_of


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("[vdso]", "kernel"),
        ("libpython3.11.so.1.0", "interpreter"),
        ("python3.12", "interpreter"),
        ("libcrypto.so.3", "cryptography"),
        ("_ssl.cpython-311-x86_64-linux-gnu.so", "cryptography"),
        ("loop.cpython-311-x86_64-linux-gnu.so", "event loop"),
        ("parser.cpython-311-x86_64-linux-gnu.so", "other native code"),
        ("libc.so.6", "other native code"),
    ],
)
def test_the_group_of_an_object_file(name: str, group: str) -> None:
    assert group_of(name) == group
