"""Faults between Homeport's processes, on the wire: a chaos proxy, a leak check, and a matrix of both.

    chaos       a TCP proxy that delays, splits, stalls, resets and corrupts, by a script
    script      the script: what happens to which bytes, as data and as text
    leaks       whether processes have come back to the level from before

`make test` runs a share of the matrix, `make faults` all of it.
"""
