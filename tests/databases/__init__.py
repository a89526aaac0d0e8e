"""Databases for tests: one PostgreSQL and one MariaDB server a run, each started when first wanted, and a database for
each test alone.

    database          fixture, open, on each of the three in turn
    database_url      fixture, of the same, for processes
    fresh_database    fixture: `with fresh_database(Kind.POSTGRESQL) as url`, for one kind, or several databases
"""
