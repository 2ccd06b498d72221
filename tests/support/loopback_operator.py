"""The operator of a cluster in which loopback addresses are nodes and Envoys: `python -m support.loopback_operator`.

Two rules are lifted, everything else is the product's own. It refuses loopback nodes; and the API server refuses
loopback endpoints, so that an endpoint at 192.0.2.N (RFC 5737: nobody's) stands for 127.0.2.N.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from weighbridge_operator import cluster
from weighbridge_operator.cli import main
from weighbridge_operator.latest import Latest
from weighbridge_operator.state import EnvoyPlaces

WRITTEN, MEANT = "192.0.2.", "127.0.2."


class _Near(Latest[EnvoyPlaces]):
    def set(self, value: EnvoyPlaces) -> None:
        super().set({pod: replace(place, url=place.url.replace(WRITTEN, MEANT)) for pod, place in value.items()})


class _LoopbackCluster(cluster.Cluster):
    async def __aenter__(self) -> _LoopbackCluster:
        await super().__aenter__()
        self.scope = replace(self.scope, cluster=False)
        self.source.envoys = _Near()
        return self


if __name__ == "__main__":
    cluster.Cluster = _LoopbackCluster  # type: ignore[misc]
    sys.exit(main("operator", sys.argv[1:]))
