"""Suites that every implementation of an interface must pass, and what they need to run: a real relay with devices."""
