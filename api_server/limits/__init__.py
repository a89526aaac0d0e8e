"""Limits: how much a team, a token, an address, a route and a device may use, changeable while everything runs.

LimitEndpoints ──> LimitService ──> limits (table)        what is set, by ADMINs
                        │ Topic.LIMITS
                   LimitBook                              what holds, in memory, of this process
                        │
Governor, REST ──> Limiter ──> Meter (one a subject)      decides, without waiting where it can
                                 ├── LocalParts           counted by this process alone
                                 └── SharedParts          counted by all processes, in Valkey:
                                       ├── SharedQuota    requests and opens, some taken ahead
                                       ├── SharedSlots    streams at a time, places held
                                       └── SharedPace     bytes a second, told afterwards
"""
