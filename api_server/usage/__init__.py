"""Usage: how many requests went through the gateway, whose, where to, and how they ended, by the hour.

Gateway ──> UsageRecorder ──every few seconds──> usage_counts        added up, off the requests' way
                                                     └──> UsageService ──> UsageEndpoints
"""
