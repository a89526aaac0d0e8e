"""Homeport from end to end: `homeport up`, other people's servers behind a device, other people's clients before it."""
