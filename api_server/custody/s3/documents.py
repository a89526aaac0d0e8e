"""Documents as objects in a bucket: `{prefix}/auths/{id}.json`.

Every write is conditional (If-None-Match, If-Match). That the server heeds it is found out at the start, with an object
for the purpose: one that ignores conditions loses updates and is refused (criterion C3).

S3 has no conditional deletion that every server knows. A document is taken away by overwriting it, on condition, with
a tombstone; an object that is one counts as none. It holds nothing but that.

The credential is the one of the settings: the AWS variables of the environment are for somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from api_server.custody.destinations import Place
from api_server.custody.documents.interfaces import MAX_DOCUMENT, Change, Document
from api_server.custody.errors import (
    ConditionsIgnoredError,
    DestinationAlteredError,
    DocumentConflictError,
    StoreRefusedError,
    StoreUnavailableError,
)
from common.secret import Secret

if TYPE_CHECKING:
    from obstore.store import S3Credential

__all__ = ["S3Documents"]

_TOMBSTONE = b'{"deleted":true}\n'
"""In the place of a document that was taken away; no document is as short."""

_AT_ONCE = 8
"""Requests under way at a time."""

_RETRIES = 2

_NO_TAG = '"00000000000000000000000000000000"'
"""An entity tag that no object has."""


class S3Documents:
    """A `Documents`.

    Args:
        place: of the server.
        bucket: there.
        prefix: of the names of objects; may be empty.
        access_key: its id.
        secret_key: the key.
        region: that requests are signed for.
        path_style: name the bucket in the path, not in the host.
        timeout: seconds for each exchange.
    """

    name = "s3"
    is_atomic = False

    def __init__(
        self,
        place: Place,
        bucket: str,
        *,
        prefix: str,
        access_key: str,
        secret_key: Secret,
        region: str = "us-east-1",
        path_style: bool = True,
        timeout: float = 60.0,
    ) -> None:
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout = timeout
        self._slots = asyncio.Semaphore(_AT_ONCE)

        def credential() -> S3Credential:
            return {
                "access_key_id": access_key,
                "secret_access_key": secret_key.reveal(),
                "token": None,
                "expires_at": None,
            }

        self._store = S3Store(
            bucket,
            config={
                "endpoint": place.url,
                "aws_endpoint_url_s3": place.url,
                "region": region,
                "virtual_hosted_style_request": not path_style,
                "conditional_put": "etag",
            },
            client_options={
                "allow_http": place.scheme == "http",
                "timeout": timedelta(seconds=timeout),
                "connect_timeout": timedelta(seconds=min(10.0, timeout)),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=timeout)},
            credential_provider=credential,
        )
        self.destination = f"s3 {place.url} {bucket}/{prefix}"
        """Which prefix of which bucket it is."""

    async def open(self) -> None:
        """Find out whether the server heeds conditions, as `Documents` says."""
        name = f"{self._prefix}homeport/probe-{secrets.token_hex(8)}"
        async with self._errors():
            first = (await obstore.put_async(self._store, name, b"1", mode="create", use_multipart=False))["e_tag"]
            try:
                await self._probe(name, first)
            finally:
                await obstore.delete_async(self._store, name)

    async def _probe(self, name: str, first: str | None) -> None:
        ignored = []
        try:
            await obstore.put_async(self._store, name, b"2", mode="create", use_multipart=False)
            ignored.append("If-None-Match")
        except AlreadyExistsError:
            pass
        try:
            await obstore.put_async(self._store, name, b"3", mode={"e_tag": _NO_TAG}, use_multipart=False)
            ignored.append("If-Match")
        except PreconditionError:
            pass
        if ignored or not first:
            what = " and ".join(ignored) or "entity tags"
            raise ConditionsIgnoredError(f"{self.destination} ignores {what}: two writers would overwrite one another")
        await obstore.put_async(self._store, name, b"4", mode={"e_tag": first}, use_multipart=False)

    async def close(self) -> None:
        """Nothing is open between calls."""

    async def forget(self) -> None:
        """Nothing is remembered."""

    async def refresh(self) -> None:
        """Every call sees what is there then; that the bucket can be read is found out by the calls."""
        async with self._errors():
            stream = obstore.list(self._store, prefix=f"{self._prefix}homeport/", chunk_size=10)
            async for _ in stream:
                break

    async def read(self, name: str) -> Document | None:
        """A document, as `Documents` says."""
        async with self._slots, self._errors():
            found = await self._get(name)
        return None if found is None or found.content == _TOMBSTONE else found

    async def names(self, prefix: str) -> Sequence[str]:
        """Names, as `Documents` says."""
        found = []
        async with self._errors():
            async for page in obstore.list(self._store, prefix=f"{self._prefix}{prefix}"):
                found += [each["path"] for each in page if each["size"] != len(_TOMBSTONE)]
        return sorted(path.removeprefix(self._prefix) for path in found)

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        """Documents, as `Documents` says."""
        documents = await asyncio.gather(*(self.read(name) for name in names))
        return {name: document for name, document in zip(names, documents, strict=True) if document is not None}

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """Some at a time, the last one last, as `Documents` says."""
        if not changes:
            return []
        outcomes = await asyncio.gather(*(self._apply(each) for each in changes[:-1]), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [*(str(outcome) for outcome in outcomes), await self._apply(changes[-1])]

    async def _apply(self, change: Change) -> str:
        content = _TOMBSTONE if change.content is None else change.content
        async with self._slots, self._errors():
            tag = change.expected
            if tag is None:
                if change.content is None:
                    return ""
                try:
                    return await self._put(change.name, content, None)
                except AlreadyExistsError:
                    found = await self._get(change.name)
                    if found is None or found.content != _TOMBSTONE:
                        raise DocumentConflictError(change.name) from None
                    tag = found.tag
            try:
                written = await self._put(change.name, content, tag)
            except (PreconditionError, FileNotFoundError):
                raise DocumentConflictError(change.name) from None
        return "" if change.content is None else written

    async def _put(self, name: str, content: bytes, tag: str | None) -> str:
        result = await obstore.put_async(
            self._store,
            self._prefix + name,
            content,
            mode="create" if tag is None else {"e_tag": tag},
            use_multipart=False,
        )
        return result["e_tag"] or ""

    async def _get(self, name: str) -> Document | None:
        try:
            result = await obstore.get_async(self._store, self._prefix + name)
        except FileNotFoundError:  # what the library raises where its own NotFoundError would be expected
            return None
        if result.meta["size"] > MAX_DOCUMENT:
            raise DestinationAlteredError(f"{name} at {self.destination} is larger than any document")
        return Document(bytes(await result.bytes_async()), result.meta["e_tag"] or "")

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """What the library raises, as errors of ours; its texts quote answers of the server, and are left out."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            raise StoreUnavailableError(f"{self.destination} does not answer in {self._timeout:g} s") from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise StoreRefusedError(f"{self.destination} refuses: the key, or its rights, do not suffice") from None
        except FileNotFoundError:
            raise StoreRefusedError(f"{self.destination} refuses: there is no such bucket") from None
        except BaseError as exc:
            raise StoreUnavailableError(f"{self.destination} cannot be used: {type(exc).__name__}") from None
