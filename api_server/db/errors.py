"""Errors of the database.

HomeportError
└── DatabaseError                     500 database_failed         base
    ├── DatabaseUnavailableError      503 database_unavailable    it cannot be reached, is busy or full; Retry-After
    ├── DatabaseConflictError         409 conflict                a row of that key is there, or one referred to is not
    ├── DatabaseSchemaError           500 database_schema         its schema is another than the code's; no start
    └── DatabaseUrlError              500 database_url_unusable   the URL names no database that can be used

What a database says about itself may hold values of rows and addresses of servers: details are our own words, and the
cause is in the chain of exceptions.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "DatabaseConflictError",
    "DatabaseError",
    "DatabaseSchemaError",
    "DatabaseUnavailableError",
    "DatabaseUrlError",
]


class DatabaseError(HomeportError):
    """Base of the errors of the database."""

    code: ClassVar[str] = "database_failed"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The database failed"


class DatabaseUnavailableError(DatabaseError):
    """The database cannot be reached, is too busy or full. What was asked for has not been done, unless it says so."""

    code: ClassVar[str] = "database_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The database is unavailable"


class DatabaseConflictError(DatabaseError):
    """A row of that key is there already, or one that is referred to is not. Nothing has been written."""

    code: ClassVar[str] = "conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "It conflicts with what is there"


class DatabaseSchemaError(DatabaseError):
    """The schema is not the one that this version of Homeport works with."""

    code: ClassVar[str] = "database_schema"
    title: ClassVar[str] = "The database has another schema"


class DatabaseUrlError(DatabaseError):
    """The URL names no database that can be used."""

    code: ClassVar[str] = "database_url_unusable"
    title: ClassVar[str] = "The URL of the database cannot be used"
