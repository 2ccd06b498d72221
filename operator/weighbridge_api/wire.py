"""What the two planes agree on: words that they say to each other through Envoy, how many choices are told, and what a
data plane's certificate says."""

from __future__ import annotations

from typing import Final

#: Namespace of a request's dynamic metadata: "node", the address that the data plane names, and "by".
CHOICE: Final = "weighbridge.choice"
CLUSTER_HEADER: Final = "x-weighbridge-cluster"  # of the named node, written by the data plane
#: Hashes of a body's beginning, 8 hex digits each, joined by "."; empty where it is short. Without it nobody is asked.
BLOCKS_HEADER: Final = "x-weighbridge-blocks"
SESSION_HEADER: Final = "x-weighbridge-session"  # the conversation that a request belongs to

#: Entries of the runtime, each followed by the cluster's name; their values are JSON.
POOL: Final = "weighbridge.pool."  # the nodes that there are to choose from
OTHERS: Final = "weighbridge.others."  # how many Envoys there are, what all of them have in flight, who is suspect

#: The name, a URI, in the certificates by which data planes know each other.
PEER_IDENTITY: Final = "urn:weighbridge:peer:weighbridge"

KEPT_MOST: Final = 100_000  # choices that a data plane keeps, at most
TOLD_MOST: Final = 1_000  # of them in one answer
