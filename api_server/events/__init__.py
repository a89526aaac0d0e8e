"""What happens to sessions, as it happens, for people and scripts that follow it."""
