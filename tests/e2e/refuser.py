"""An Envoy by hand, run in a pod with the operator's image: it takes all clusters but those of one name.

`python refuser.py HOST NAME`, HOST being an operator's address. It refuses in Envoy's own words.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
SERVER = "weighbridge-operator.weighbridge.svc"


async def main(host: str, refused: str) -> None:
    """Until it is ended, or the operator is."""
    ca, chain, key = (Path("/tls", name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))  # noqa: ASYNC240
    credentials = grpc.ssl_channel_credentials(ca, key, chain)
    options = [("grpc.ssl_target_name_override", SERVER)]
    async with grpc.aio.secure_channel(f"{host}:18000", credentials, options) as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        await call.write(DiscoveryRequest(type_url=TYPE, node=Node(id="refuser", cluster="weighbridge")))
        accepted = ""
        async for response in call:
            answer = DiscoveryRequest(type_url=TYPE, response_nonce=response.nonce, version_info=accepted)
            names = [Cluster.FromString(resource.value).name for resource in response.resources]
            bad = [name for name in names if refused in name]
            if bad:
                answer.error_detail.message = (
                    f"Error adding/updating cluster(s) {bad[0]}: this build knows no such thing"
                )
            else:
                answer.version_info = accepted = response.version_info
            await call.write(answer)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
