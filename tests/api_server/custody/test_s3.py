"""S3 as a store of documents, against moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from api_server.custody.documents.interfaces import Change, name_of
from api_server.custody.errors import ConditionsIgnoredError, StoreRefusedError, StoreUnavailableError
from api_server.custody.records import document_of
from tests.api_server.custody.destinations import Destination, s3_destination
from tests.api_server.custody.samples import record
from tests.stack.s3 import Manners, S3Server, s3_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def destination(server: S3Server) -> Iterator[Destination]:
    yield s3_destination(server, timeout=5)
    for name, value in vars_of(Manners()).items():
        setattr(server.manners, name, value)


def vars_of(manners: Manners) -> dict[str, object]:
    return {name: getattr(manners, name) for name in Manners.__slots__}


async def test_objects_are_named_as_agreed(server: S3Server, destination: Destination) -> None:
    await destination.documents().apply([Change(name_of("ptk_0001"), document_of(record(1)), None)])
    bucket = destination.settings["OBJECTSTORE_BUCKET"]
    assert f"PUT /{bucket}/pre/fix/auths/ptk_0001.json" in "\n".join(server.manners.seen)


@pytest.mark.parametrize("ignored", ["If-None-Match", "If-Match"])
async def test_c3_a_server_that_ignores_conditions_is_refused_at_the_start(
    server: S3Server, destination: Destination, ignored: str
) -> None:
    server.manners.ignores = frozenset({ignored})
    with pytest.raises(ConditionsIgnoredError, match=f"ignores {ignored}:"):
        await destination.documents().open()
    server.manners.ignores = frozenset()
    assert await destination.everything() == {}, "nothing of the probe is left"


async def test_c3_a_deleted_document_can_be_made_anew_and_nothing_of_it_stays(destination: Destination) -> None:
    documents = destination.documents()
    await documents.open()
    (tag,) = await documents.apply([Change("auths/a.json", b"the first content", None)])
    await documents.apply([Change("auths/a.json", None, tag)])
    assert await documents.names("auths/") == []
    assert await documents.read("auths/a.json") is None
    (again,) = await documents.apply([Change("auths/a.json", b"the second content", None)])
    found = await documents.read("auths/a.json")
    assert found is not None
    assert (found.content, found.tag) == (b"the second content", again)


async def test_a_failed_upload_is_never_told_as_a_success(server: S3Server, destination: Destination) -> None:
    """One of the faults of the system that Homeport takes the place of: a retry that reported success."""
    documents = destination.documents()
    await documents.open()
    server.manners.fails_from = server.manners.writes + 3
    with pytest.raises(StoreUnavailableError):
        await documents.apply([Change(f"auths/{number}.json", b"some content of it", None) for number in range(8)])
    server.manners.fails_from = None
    assert len(await documents.names("auths/")) == 3


async def test_c5_a_bucket_or_key_that_does_not_do_is_refused_and_not_quoted(
    server: S3Server, destination: Destination
) -> None:
    server.manners.refuses = True
    with pytest.raises(StoreRefusedError, match="key, or its rights") as caught:
        await destination.documents().open()
    assert "secret-of-s3" not in caught.value.detail
    server.manners.refuses = False
    httpx.delete(f"{server.url}/{destination.settings['OBJECTSTORE_BUCKET']}", trust_env=False)
    with pytest.raises(StoreRefusedError, match="no such bucket"):
        await destination.documents().open()


async def test_c5_requests_are_signed_with_the_key_of_the_settings(server: S3Server, destination: Destination) -> None:
    await destination.documents().open()
    signed = [line for line in server.manners.seen if "AWS4-HMAC" in line]
    assert signed
    assert all("Credential=id-of-key/" in line for line in signed)
