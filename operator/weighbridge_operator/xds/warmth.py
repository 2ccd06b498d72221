"""Whether an Envoy's clusters are warm: the one thing that an ADS server must know and the protocol doesn't say."""

from __future__ import annotations

import re

import aiohttp

from weighbridge_operator.xds.session import Warmth

TIME_LIMIT = 0.5  # seconds
SIZE_LIMIT = 4096  # bytes
GAUGE = re.compile(rb"^cluster_manager\.warming_clusters: (\d+)$", re.MULTILINE)


def ask_over(http: aiohttp.ClientSession) -> Warmth:
    """Looks at the gauge of warming clusters over this HTTP session."""

    async def ask(stats: str) -> bool:
        try:
            async with http.get(
                f"{stats}/stats?filter=^cluster_manager.warming_clusters$",
                timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
                allow_redirects=False,
            ) as answer:
                gauge = GAUGE.search(await answer.content.read(SIZE_LIMIT))
                return gauge is not None and int(gauge[1]) == 0
        except aiohttp.ClientConnectorError as error:
            # A starting Envoy opens its listeners, that of its statistics too, only when its clusters are warm: nobody
            # can come in yet, and to wait for it would be to wait for ourselves.
            return isinstance(error.os_error, ConnectionRefusedError)
        except (TimeoutError, aiohttp.ClientError):
            return False

    return ask
