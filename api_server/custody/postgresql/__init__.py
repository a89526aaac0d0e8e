"""A PostgreSQL of one's own as a store of documents."""
