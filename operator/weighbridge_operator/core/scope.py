"""Which objects a gateway serves, and where it runs: what `resolve` has to know beside the objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the gateway takes its objects from. Names are namespaces."""

    namespace: str = "default"
    #: Further namespaces that it serves.
    others: frozenset[str] = frozenset()
    #: It serves every namespace.
    everything: bool = False
    #: It runs in a cluster: there are Services, and a loopback address is nobody's node.
    cluster: bool = False
    #: IP literals that no node may have: the API server's.
    refused: frozenset[str] = frozenset()
    #: IP literal and port of the gateway's own entrance: what is sent to a node there comes back.
    entrance: tuple[str, int] | None = None

    def serves(self, namespace: str) -> bool:
        return self.everything or namespace == self.namespace or namespace in self.others

    def __str__(self) -> str:
        if self.everything:
            return "every namespace"
        names = sorted({self.namespace, *self.others})
        return f"namespace{'s' if len(names) > 1 else ''} {', '.join(names)}"
