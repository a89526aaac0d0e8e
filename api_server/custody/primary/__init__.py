"""A remote store as the primary: the database is its working copy, and a change counts once the primary has it.

acknowledgements.py   who waits for the primary, and what they are told
store.py              the record store that waits
"""
