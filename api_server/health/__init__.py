"""Whether the process is up, whether it is of use, and its metrics."""
