"""The record of what was done, by whom, to what: a chain that cannot be changed unseen."""
