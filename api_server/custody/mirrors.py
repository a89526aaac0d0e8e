"""The mirrors that the settings name, each made but not yet opened."""

from __future__ import annotations

from api_server.custody.destinations import place_of
from api_server.custody.documents.interfaces import Documents
from api_server.custody.errors import DestinationSettingsError
from api_server.custody.git.command import Remote
from api_server.custody.git.documents import GitDocuments
from api_server.custody.mirror.local_copy import LocallyCopied
from api_server.custody.postgresql.documents import PostgresDocuments
from api_server.custody.s3.documents import S3Documents
from api_server.custody.settings import CustodySettings
from common.clock import Clock

__all__ = ["documents_of"]


def documents_of(settings: CustodySettings, clock: Clock) -> list[Documents]:
    """A store of documents for each destination that is named.

    Raises:
        DestinationSettingsError: one cannot be right.
    """
    try:
        settings.check_mirrors()
    except ValueError as exc:
        raise DestinationSettingsError(str(exc)) from None
    found: list[Documents] = []
    if settings.gitstore_git_url is not None:
        found.append(_git(settings, settings.gitstore_git_url, clock))
    if settings.objectstore_endpoint is not None:
        found.append(_s3(settings, settings.objectstore_endpoint))
    if settings.pgstore_dsn is not None:
        found.append(PostgresDocuments(settings.pgstore_dsn, settings.pgstore_schema, timeout=settings.custody_timeout))
    return found


def _git(settings: CustodySettings, url: str, clock: Clock) -> Documents:
    for value in (settings.gitstore_git_username, settings.gitstore_git_token):
        text = "" if value is None else value if isinstance(value, str) else value.reveal()
        if not text.isprintable():
            # A line feed would end the credential in the protocol of helpers, and begin something else.
            raise DestinationSettingsError("gitstore_git_username and gitstore_git_token must be plain text")
    remote = Remote(
        place_of(url, "gitstore_git_url"),
        settings.gitstore_git_username,
        settings.gitstore_git_token,
        settings.gitstore_ca_file,
    )
    return GitDocuments(
        remote, settings.gitstore_git_branch, settings.git_clone(), clock, timeout=settings.custody_timeout
    )


def _s3(settings: CustodySettings, endpoint: str) -> Documents:
    bucket, access, secret = (
        settings.objectstore_bucket,
        settings.objectstore_access_key,
        settings.objectstore_secret_key,
    )
    if bucket is None or access is None or secret is None:
        raise DestinationSettingsError(
            "objectstore_bucket, objectstore_access_key and objectstore_secret_key are needed for objectstore_endpoint"
        )
    documents = S3Documents(
        place_of(endpoint, "objectstore_endpoint"),
        bucket,
        prefix=settings.objectstore_prefix,
        access_key=access,
        secret_key=secret,
        region=settings.objectstore_region,
        path_style=settings.objectstore_path_style,
        timeout=settings.custody_timeout,
    )
    if settings.objectstore_local_mirror is None:
        return documents
    return LocallyCopied(documents, settings.objectstore_local_mirror)
