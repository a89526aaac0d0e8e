"""Tests of how processes learn what others have changed."""
