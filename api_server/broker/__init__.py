"""The broker of third-party tokens: it fetches a token once, and hands it to whoever may have it.

realms   how a token is had from a provider: templates, which are data (templates, requests, answers)
secrets  the keys of one application, sealed and write-only
tokens   what came of both: cached, refreshed early, fetched by one process at a time

TokenBroker ── cache ──(miss)── one flight a key ── read the database ──(due)── Refresher
Refresher   ── lease ── begin (written down) ── Provider ── commit (lease checked) ── announce
"""
