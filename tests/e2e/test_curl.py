"""curl through the gateway, nginx as the device's service."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.e2e.stage import Workshop
from tests.stack.curl import Curl
from tests.stack.installation import Installation

LARGE = 100 * 2**20


@pytest.fixture
def curl(installation: Installation, tmp_path: Path) -> Curl:
    """curl that shows the token."""
    return Curl(tmp_path, installation.authorization)


@pytest.fixture(scope="module")
def large(workshop: Workshop) -> str:
    """The SHA-256 of `/files/large`: 100 MiB of random bytes."""
    digest = hashlib.sha256()
    with (workshop.files.files / "large").open("wb") as file:
        for _ in range(LARGE // 2**20):
            block = os.urandom(2**20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_get_gives_the_file_as_nginx_sends_it(curl: Curl, installation: Installation, workshop: Workshop) -> None:
    (workshop.files.files / "greeting").write_text("hello from behind the NAT\n")
    answer = curl(installation.url(workshop.name, "files", "/files/greeting"))
    assert (answer.status, answer.body) == (200, b"hello from behind the NAT\n")


def test_head_gives_the_length_and_no_body(
    curl: Curl, installation: Installation, workshop: Workshop, large: str
) -> None:
    answer = curl("--head", installation.url(workshop.name, "files", "/files/large"))
    assert answer.status == 200
    assert f"content-length: {LARGE}" in answer.body.decode().lower()


def test_a_second_request_goes_over_the_same_connection_after_a_head(
    curl: Curl, installation: Installation, workshop: Workshop, large: str, tmp_path: Path
) -> None:
    # A HEAD whose length was taken for that of a body would leave the connection waiting for 100 MiB.
    (workshop.files.files / "after").write_text("after")
    head = ["--head", "--output", str(tmp_path / "head"), installation.url(workshop.name, "files", "/files/large")]
    answer = curl.second(head, [installation.url(workshop.name, "files", "/files/after")])
    assert (answer.status, answer.connections, answer.body) == (200, 0, b"after")


def test_100_mib_come_down_unharmed(
    curl: Curl, installation: Installation, workshop: Workshop, large: str, tmp_path: Path
) -> None:
    answer = curl("--output", tmp_path / "large", installation.url(workshop.name, "files", "/files/large"))
    assert answer.status == 200
    assert sha256(tmp_path / "large") == large


def test_100_mib_go_up_unharmed(curl: Curl, installation: Installation, workshop: Workshop, large: str) -> None:
    source = workshop.files.files / "large"
    answer = curl("--upload-file", source, installation.url(workshop.name, "files", "/upload/large"))
    assert answer.status in (201, 204)
    assert sha256(workshop.files.upload / "large") == large


def test_100_mib_go_up_in_chunks_unharmed(
    curl: Curl, installation: Installation, workshop: Workshop, large: str
) -> None:
    source = workshop.files.files / "large"
    url = installation.url(workshop.name, "files", "/upload/chunked")
    answer = curl("--verbose", "--upload-file", "-", url, body=source.read_bytes())
    assert "> Transfer-Encoding: chunked" in answer.trace
    assert answer.status in (201, 204)
    assert sha256(workshop.files.upload / "chunked") == large


def test_an_upload_that_expects_100_continue_gets_it_from_the_service(
    curl: Curl, installation: Installation, workshop: Workshop
) -> None:
    url = installation.url(workshop.name, "files", "/upload/expected")
    answer = curl("--verbose", "--header", "Expect: 100-continue", "--upload-file", "-", url, body=b"as agreed")
    assert "< HTTP/1.1 100 Continue" in answer.trace
    assert answer.status == 201
    assert (workshop.files.upload / "expected").read_bytes() == b"as agreed"


def test_an_upload_refused_instead_of_100_continue_is_not_sent(
    curl: Curl, installation: Installation, workshop: Workshop
) -> None:
    # nginx has no PUT here; curl gives up the body when the refusal comes before the 100.
    url = installation.url(workshop.name, "files", "/files/refused")
    answer = curl("--verbose", "--header", "Expect: 100-continue", "--upload-file", "-", url, body=b"not wanted")
    assert "< HTTP/1.1 100 Continue" not in answer.trace
    assert answer.status == 405


def test_http_1_0_gets_the_whole_file_and_the_end_of_the_connection(
    curl: Curl, installation: Installation, workshop: Workshop, large: str, tmp_path: Path
) -> None:
    url = installation.url(workshop.name, "files", "/files/large")
    answer = curl("--http1.0", "--output", tmp_path / "large", url)
    assert answer.status == 200
    assert sha256(tmp_path / "large") == large


def test_a_download_is_resumed_where_it_ended(
    curl: Curl, installation: Installation, workshop: Workshop, large: str, tmp_path: Path
) -> None:
    url = installation.url(workshop.name, "files", "/files/large")
    target = tmp_path / "large"
    first = curl("--range", "0-33333332", "--output", target, url)
    assert (first.status, target.stat().st_size) == (206, 33_333_333)
    rest = curl("--continue-at", "-", "--output", target, url)
    assert rest.status == 206
    assert sha256(target) == large


def test_a_file_that_did_not_change_is_304_without_a_body(
    curl: Curl, installation: Installation, workshop: Workshop, tmp_path: Path
) -> None:
    (workshop.files.files / "same").write_text("same")
    url = installation.url(workshop.name, "files", "/files/same")
    assert curl("--etag-save", tmp_path / "etag", url).status == 200
    again = curl("--etag-compare", tmp_path / "etag", url)
    assert (again.status, again.body) == (304, b"")


def test_without_a_token_nothing_is_said_of_the_device(
    installation: Installation, workshop: Workshop, tmp_path: Path
) -> None:
    answer = Curl(tmp_path, {})("--include", installation.url(workshop.name, "files", "/files/greeting"))
    assert answer.status == 401
    assert b'"code":"unauthenticated"' in answer.body.replace(b" ", b"")
    assert answer.body.lower().count(b"\r\nwww-authenticate: ") == 2  # one a line: browsers look no further


def test_the_token_stays_at_the_gateway(curl: Curl, installation: Installation) -> None:
    answer = curl(installation.url(installation.run["demo_device"], installation.run["demo_service"], "/headers"))
    assert answer.status == 200
    assert installation.token.encode() not in answer.body
    assert b"authorization" not in answer.body.lower()


def test_a_device_that_is_not_connected_is_502_with_its_code(curl: Curl, installation: Installation) -> None:
    installation.session_token_file("never-dialled")
    answer = curl(installation.url("never-dialled", "files"))
    assert answer.status == 502
    assert b"device_offline" in answer.body


def test_a_device_that_nobody_has_registered_is_404_with_its_code(curl: Curl, installation: Installation) -> None:
    answer = curl(installation.url("nobody", "files"))
    assert answer.status == 404
    assert b"no_such_device" in answer.body


def test_a_service_that_is_not_on_the_list_is_refused(
    curl: Curl, installation: Installation, workshop: Workshop
) -> None:
    answer = curl(installation.url(workshop.name, "ssh"))
    assert answer.status == 502
    assert b"service_refused" in answer.body
