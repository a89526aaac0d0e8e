"""Tests of `api_server.limits`."""
