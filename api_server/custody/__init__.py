"""Custody: what is secret and stored, under which keys, and where copies of it are kept."""
