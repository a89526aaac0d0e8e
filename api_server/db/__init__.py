"""The database: one engine, one schema, and the two ways of working with it, to read and to write.

    domain store ──> Database.read / Database.write ──> engine ──> SQLite | PostgreSQL | MariaDB
                                                          │
    tables.py of each domain ──> METADATA            migrations: what makes the schema, and changes it

Domains define their tables beside their stores; nothing but their stores knows SQL.
"""
