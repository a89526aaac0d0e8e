"""How one API process learns what another has changed, so that each may keep a cache.

    a transaction ── record ──> generations: a number a topic, the truth
      after its commit ── announce ──> this process's listeners, and the relay ──> every process's EventFeed
    ChangeFeed ── polls the numbers, hears the notices ──> ChangeListener: drop one thing, or distrust all

A notice is a hint that makes things quick. What nobody heard of is found by the numbers.
"""
