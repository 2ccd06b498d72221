"""Writes what the report says of each object onto the object: the Lease holder alone, only on change, on a budget.

    Report ─► statuses (pure) ─► ledger: what differs, in which order (pure) ─► writer: a thread ─► API server
                                                election: who may (pure)  ─────┘

Statuses are for people; nothing of the gateway waits for them, and no weight is later because the API server is slow.
"""
