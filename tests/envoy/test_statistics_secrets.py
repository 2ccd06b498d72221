"""What the statistics address gives to whoever reaches it, on an Envoy with every kind of secret: none of them."""

from __future__ import annotations

from contextlib import suppress

import aiohttp
import pytest

from support.envoy import RealEnvoy, free_port
from support.mounted import authority, server, side
from support.scene import wait_for
from support.stack import Stack, node, secret
from weighbridge_operator.xds.bootstrap import DUMPED, BootstrapSettings, bootstrap

pytestmark = pytest.mark.envoy
CALLER, PROVIDER = "sk-alice-8Hq2Zt", "sk-provider-77aB"


async def test_no_secret_can_be_read_at_the_statistics_address() -> None:
    ours = authority()
    entries = {name: value.decode() for name, value in side(server(ours), ours).items()}
    objects = [
        node("hosted", 9, credentials={"secretRef": {"name": "provider", "key": "apiKey"}}),
        secret("provider", apiKey=PROVIDER),
        secret("callers", alice=CALLER),
        secret("front", tls_crt=entries["tls.crt"], tls_key=entries["tls.key"]),
    ]
    admin, stats = free_port(), free_port()
    async with Stack(*objects, tls="front", keys="callers") as stack:
        operator = f"127.0.0.1:{stack.xds_port}"
        settings = BootstrapSettings(operator, "weighbridge", "seen", admin, f"127.0.0.1:{stats}")
        async with RealEnvoy(bootstrap(settings), admin_port=admin), aiohttp.ClientSession() as http:
            base = f"http://127.0.0.1:{stats}"

            async def is_live() -> bool:
                with suppress(aiohttp.ClientError):
                    async with http.get(f"{base}/ready") as answer:
                        return answer.status == 200
                return False

            await wait_for(is_live)
            shown = {}
            for path in ("/stats", "/stats/prometheus", *(f"/config_dump?resource={part}" for part in DUMPED)):
                async with http.get(base + path) as answer:
                    assert answer.status == 200, path
                    shown[path] = await answer.text()
            assert "[redacted]" in shown["/config_dump?resource=dynamic_route_configs"]
            for path, text in shown.items():
                for value in (CALLER, PROVIDER, "PRIVATE KEY", entries["tls.key"].split("\n")[1]):
                    assert value not in text, path
            for part in ("dynamic_active_secrets", "dynamic_listeners", "bootstrap"):
                async with http.get(f"{base}/config_dump?resource={part}") as answer:
                    assert answer.status == 404, part
