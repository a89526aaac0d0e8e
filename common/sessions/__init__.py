"""The session store: its interfaces and its errors. Both processes that have a store implement these."""
