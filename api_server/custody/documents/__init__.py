"""Stores of documents: what Git, S3 and a PostgreSQL of one's own have in common."""
