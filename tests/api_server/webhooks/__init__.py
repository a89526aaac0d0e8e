"""Tests of `api_server.webhooks`."""
