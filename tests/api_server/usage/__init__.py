"""Tests of `api_server.usage`."""
