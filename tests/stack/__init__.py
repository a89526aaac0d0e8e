"""What the end-to-end tests and the bench start: Homeport's processes, and other people's servers and clients.

Everything listens on 127.0.0.1 at a port of the system's choice, keeps its files in a folder that the caller gives,
and is a context manager: leaving it ends the process, whatever happened.
"""
