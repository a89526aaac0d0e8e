"""Copies of the records at another place: the place is proven, what is sent is acknowledged, what differs is told."""
