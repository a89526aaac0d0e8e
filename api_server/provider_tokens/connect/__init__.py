"""Connecting a provider: a browser goes there with a transaction in a cookie, and comes back with a code.

cookies.py   the transaction, sealed, in the browser that began it
service.py   begin and finish, in order
once.py      an answer counts once
"""
