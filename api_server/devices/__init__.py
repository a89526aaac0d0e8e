"""Devices, and the session tokens that they dial in with."""
