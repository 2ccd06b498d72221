"""xDS over mutual TLS as it is run: the commands, a mounted Secret on each side, the real Envoy, and rotation."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.envoy import RealEnvoy, free_port
from support.mounted import Mounted, authority, envoy, server, side
from support.scene import Scene, wait_for
from weighbridge_operator.bootstrap_command import main

pytestmark = pytest.mark.envoy


class SecureScene(Scene):
    """A scene whose operator and Envoy have certificates."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.ours = authority()
        self.operators, self.envoys = Mounted(folder / "operator"), Mounted(folder / "envoy")
        self.operators.put(side(server(self.ours), self.ours))
        self.envoys.put(side(envoy(self.ours), self.ours))

    async def start_operator(self) -> None:
        self.operator_flags = ("--xds-tls-directory", str(self.operators.directory))
        await super().start_operator()

    def bootstrap_flags(self) -> tuple[str, ...]:
        place = ("--operator", f"localhost:{self.xds}")
        return (*place, "--tls-directory", str(self.envoys.directory), "--write", str(self.folder / "envoy.json"))

    async def status(self) -> dict[str, Any]:
        async with self.http.get(f"http://127.0.0.1:{self.admin}/status") as answer:
            return dict(await answer.json())

    async def certificates(self) -> set[str]:
        """Serial numbers of what Envoy has."""
        async with self.http.get(f"http://127.0.0.1:{self.envoy_admin}/certs") as answer:
            told = (await answer.json(content_type=None))["certificates"]
        return {one["serial_number"] for each in told for one in each.get("cert_chain", ())}


async def served_with(scene: SecureScene) -> str:
    """The serial number of what the operator shows to a client."""
    mounted = scene.envoys.directory
    context = await asyncio.to_thread(ssl.create_default_context, cafile=str(mounted / "ca.crt"))
    context.load_cert_chain(mounted / "tls.crt", mounted / "tls.key")
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("localhost", scene.xds, ssl=context)
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return str(found).lower().lstrip("0")


def serial(pair: object) -> str:
    return f"{pair.certificate.serial_number:x}"  # type: ignore[attr-defined]


async def until(check: Callable[[], object]) -> None:
    async def checked() -> bool:
        return bool(await check())  # type: ignore[misc]

    await wait_for(checked)


async def test_both_sides_take_new_certificates_while_they_run_and_configuration_goes_on(tmp_path: Path) -> None:
    async with SecureScene(tmp_path) as scene:
        assert await scene.answers()
        await until(lambda: holds(scene, 3))
        # A new authority, announced to both sides, then used by both, then alone.
        new = authority()
        scene.operators.put(side(server(scene.ours), scene.ours, new))
        scene.envoys.put(side(envoy(scene.ours), scene.ours, new))
        theirs, own = envoy(new), server(new)
        scene.envoys.put(side(theirs, scene.ours, new))
        await until(lambda: has(scene, serial(theirs)))
        scene.operators.put(side(own, scene.ours, new))
        await until(lambda: shows(scene, serial(own)))
        scene.envoys.put(side(theirs, new))
        scene.operators.put(side(own, new))
        # The stream from before is still there; a new one needs the new certificates.
        scene.write(*scene.objects()[:2])
        await until(lambda: holds(scene, 2))
        await scene.operator.kill()
        await scene.start_operator()
        await until(lambda: holds(scene, 2))
        assert await scene.answers()


async def has(scene: SecureScene, number: str) -> bool:
    return any(number == found.lower().lstrip("0") for found in await scene.certificates())


async def shows(scene: SecureScene, number: str) -> bool:
    return await served_with(scene) == number


async def holds(scene: SecureScene, nodes: int) -> bool:
    """Whether the one Envoy is connected and holds a configuration with so many nodes."""
    try:
        told = await scene.status()
    except aiohttp.ClientError:
        return False
    return [envoy["current"] for envoy in told["envoys"]] == [True] and len(told["objects"]) == nodes


async def test_an_envoy_asks_nothing_of_an_operator_that_is_somebody_else(tmp_path: Path) -> None:
    async with SecureScene(tmp_path) as scene:
        # Our authority, another name: what a neighbour in the cluster might hold.
        scene.operators.put(side(server(scene.ours, "neighbour.default.svc"), scene.ours))
        await scene.operator.kill()
        await scene.start_operator()
        bootstrap = Mounted(tmp_path / "second")
        bootstrap.put(side(envoy(scene.ours), scene.ours))
        admin = free_port()
        flags = ["--operator", f"localhost:{scene.xds}", "--id", "second", "--admin-port", str(admin)]
        flags += ["--tls-directory", str(bootstrap.directory), "--write", str(tmp_path / "envoy.json")]
        assert main(flags) == 0
        config = json.loads((tmp_path / "envoy.json").read_text())
        async with RealEnvoy(config, admin_port=admin) as second:
            await until(lambda: refused(second))
            assert await second.stat("control_plane.connected_state") == 0
            assert await second.stat("listener_manager.lds.update_success") == 0


async def refused(envoy: RealEnvoy) -> bool:
    return await envoy.stat("cluster.xds.ssl.fail_verify_san") > 0
