"""Tokens of people at other providers: GitHub, GitLab, Bitbucket, and whoever speaks OpenID Connect.

settings.py     what is said about a provider
providers/      how each of them is spoken to
errors.py       how it fails
"""
