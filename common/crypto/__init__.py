"""Tokens, what is sealed at rest, and the files that keys are kept in.

`session_tokens` (what a device shows to the relay), `api_tokens` (what a program shows to the API and the gateway),
`key_sets` (files of the keys that sign), `envelope` and `keyring` (what is secret at rest, and the keys that it needs),
`keyfiles` (secrets on disk, 0600). Nothing here listens, logs or looks at a clock: time is passed in.
"""
