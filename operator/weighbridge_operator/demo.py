"""`weighbridge demo`: a gateway before three simulated nodes of different strength, with steady traffic through it.

The nodes and the traffic are processes of their own, as they would be elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from weighbridge_operator.demo_folder import open_folder
from weighbridge_operator.plane import ControlPlane
from weighbridge_operator.ports import check_port_free
from weighbridge_operator.settings import Settings
from weighbridge_operator.standalone import Work, run_up

MODEL = "qwen2.5-7b"
SIZES = {"large": 4, "medium": 2, "small": 1}
POLICY = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "RoutePolicy",
    "metadata": {"name": "precise"},
    "spec": {"match": {"models": [MODEL]}, "balance": {"precise": True}},
}
log = logging.getLogger("weighbridge.demo")
LOOK = 0.5  # seconds between two looks for the parent
RATE = 20.0  # requests a second: about half of what the three can do


async def run_demo(settings: Settings, parent: int | None = None, *, precise: bool = False) -> int:
    """Runs the demonstration until a signal comes, and leaves nothing behind. Raises PortTakenError.

    `precise`: a node is named for each request. `parent` is the process that started this one: when it is gone, so is
    all of this.
    """
    if parent not in (None, os.getppid()):
        raise ValueError(f"--parent-pid: {parent} is not the process that started this one")
    check_port_free(*settings.entrance, "choose another with --port (make demo PORT=9000)")
    check_port_free(*settings.admin, "choose another with --admin (make demo ADMIN=127.0.0.1:9001)")
    with open_folder() as directory:
        nodes = [f"name={name},size={size},model={MODEL}" for name, size in SIZES.items()]
        fleet = await _start("--every", "8", *(arg for node in nodes for arg in ("--node", node)))
        try:
            ports = await _read_ports(fleet)
            objects = [*(_describe(n, p) for n, p in ports.items()), *([POLICY] if precise else [])]
            (directory / "nodes.yaml").write_text(yaml.safe_dump_all(objects))
            shown = replace(
                settings, paths=(directory,), state=None, hints=list_hints(settings.entrance, ports, directory)
            )
            return await run_up(shown, _send_traffic, *([] if parent is None else [_end_with(parent)]))
        finally:
            await _stop(fleet)


def _end_with(parent: int) -> Work:
    """Ends when the parent is another one than this: a make that was killed can pass nothing on."""

    async def wait(_: ControlPlane) -> None:
        while os.getppid() == parent:  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(LOOK)

    return wait


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "weighbridge_simulator.cli",
        *arguments,
        "--print-json",
        "--parent-pid",
        str(os.getpid()),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _read_ports(fleet: asyncio.subprocess.Process) -> dict[str, int]:
    assert fleet.stdout is not None
    line = await fleet.stdout.readline()
    if not line:
        raise OSError("the simulated nodes did not start")
    return {node["name"]: node["port"] for node in json.loads(line)["nodes"]}


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _send_traffic(plane: ControlPlane) -> None:
    """Sends once the gateway serves, and until the end."""
    version = 0
    while True:
        report, version = await plane.reports.wait_newer(version)
        if any(envoy.current for envoy in report.envoys):
            break
    sender = await _start("--send", report.entrance, "--rate", str(RATE), "--model", MODEL)
    try:
        assert sender.stdout is not None
        await _tell(sender.stdout)
    finally:
        await _stop(sender)


async def _tell(lines: asyncio.StreamReader) -> None:
    """Logs what became of the traffic: when something failed, and else twice a minute."""
    failed, told = 0, 0
    while line := await lines.readline():
        told += 1
        counts = {name: int(count) for name, count in json.loads(line)["traffic"].items()}
        lost = sum(counts.get(name, 0) for name in ("lost", "refused", "late", "shed"))
        cut = counts.get("cut", 0)
        if lost + cut != failed or told % 30 == 5:
            failed = lost + cut
            answered = counts.get("ok", 0)
            log.info("traffic: %d answered, %d failed, %d cut when their node died in mid-answer", answered, lost, cut)


def _describe(name: str, port: int) -> dict[str, object]:
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name},
        "spec": {
            "engine": "vllm",
            "address": {"host": "127.0.0.1", "port": port},
            "models": [{"name": MODEL}],
            "capacity": SIZES[name],
        },
    }


def list_hints(entrance: tuple[str, int], ports: Mapping[str, int], directory: Path) -> tuple[str, ...]:
    """Lines to copy. On 80 cells and 24 lines they leave room for the three nodes and why each has its weight."""
    base = f"http://{entrance[0]}:{entrance[1]}"
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
    control = f"http://127.0.0.1:{ports['large']}/sim/control"
    sibling = f"http://127.0.0.1:{ports['small']}/sim/control"
    return (
        f"curl {base}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
        "from openai import OpenAI",
        f'ai = OpenAI(base_url="{base}/v1", api_key="none")',
        f'ai.completions.create(model="{MODEL}", prompt="hello")',
        f"Edit {directory}, or disturb node large in another terminal:",
        f"  slow it down   curl {control} -d '{{\"slow\": 5}}'",
        f"  flood it       curl {control} -d '{{\"flood\": 12}}'",
        f"  kill it        curl {control} -d '{{\"down\": true}}'",
        f'  and undo       curl {sibling} -d \'{{"node": "large", "clear": true}}\'',
    )
