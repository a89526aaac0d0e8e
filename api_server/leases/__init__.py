"""Leases: one process at a time does what must not be done twice, such as asking a provider for a token."""
