"""Other gateways, each from its registry into a virtual environment of its own, and how each is started.

The environments lie in ${XDG_CACHE_HOME:-~/.cache}/weighbridge/peers, by name and version; nothing depends on them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.envoy import free_port

READY = 120.0  # seconds for a gateway to answer its first request
INSTALL = 1800.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway. `command(bin, port, nodes, model, folder)` starts it; `policy` is which of its ways it balances by."""

    name: str
    package: str
    version: str
    policy: str
    command: Callable[[Path, int, Sequence[str], str, Path], list[str]]
    extra: str = ""


def _route(program: str, *arguments: str) -> Callable[[Path, int, Sequence[str], str, Path], list[str]]:
    def command(folder: Path, port: int, nodes: Sequence[str], _: str, __: Path) -> list[str]:
        first, *rest = program.split()
        given = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        given += ["--worker-startup-check-interval", "1", *arguments]
        return [str(folder / first), *rest, *given, "--worker-urls", *nodes]

    return command


def _litellm(folder: Path, port: int, nodes: Sequence[str], model: str, scratch: Path) -> list[str]:
    common = {"model": f"openai/{model}", "api_key": "none"}
    told: dict[str, Any] = {
        "model_list": [{"model_name": model, "litellm_params": common | {"api_base": f"{node}/v1"}} for node in nodes],
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 2},
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        "litellm_settings": {"telemetry": False},
    }
    path = scratch / "litellm.yaml"
    path.write_text(yaml.safe_dump(told))
    return [str(folder / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]


#: Each by the policy of its own that follows load. Versions are those that were measured.
PEERS = (
    Peer("vllm-router", "vllm-router", "0.1.17", "power_of_two",
         _route("vllm-router", "--policy", "power_of_two", "--log-level", "error")),
    Peer("sglang-router", "sglang-router", "0.3.2", "power_of_two",
         _route("sglang-router launch", "--policy", "power_of_two", "--log-level", "error")),
    Peer("smg", "smg", "1.13.0", "least_load",
         _route("smg launch", "--policy", "least_load", "--backend", "vllm", "--log-level", "error")),
    Peer("LiteLLM", "litellm", "1.108.7", "least-busy", _litellm, extra="[proxy]"),
)  # fmt: skip


def find_cache() -> Path:
    """Where they all lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weighbridge" / "peers"


async def install(peer: Peer) -> Path:
    """The directory of its programs, installed where it is not yet. RuntimeError says what pip said."""
    place = find_cache() / f"{peer.package}-{peer.version}"
    if (place / "installed").exists():
        return place / "bin"
    print(f"installing {peer.name} {peer.version} into {place} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    await run_program(sys.executable, "-m", "venv", str(place))
    wanted = f"{peer.package}{peer.extra}=={peer.version}"
    await run_program(str(place / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", wanted)
    (place / "installed").touch()
    return place / "bin"


async def run_program(*command: str, cwd: Path | None = None, limit: float = INSTALL) -> str:
    """What a program says, to its end. RuntimeError where it fails, with the last of it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=cwd
    )
    async with asyncio.timeout(limit):
        said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-600:]}")
    return said.decode()


@asynccontextmanager
async def start(peer: Peer, nodes: Sequence[str], model: str) -> AsyncIterator[tuple[str, int]]:
    """Runs a peer before these nodes (URLs) until the block ends; its URL and process id."""
    programs = await install(peer)
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        port = free_port()
        log = Path(scratch) / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *peer.command(programs, port, nodes, model, Path(scratch)),
                stdout=out,
                stderr=out,
                cwd=scratch,
                # What LiteLLM would else look for elsewhere.
                env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"},
            )
        try:
            url = f"http://127.0.0.1:{port}"
            await wait_answer(url, model, process, log)
            yield url, process.pid
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def wait_answer(url: str, model: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Until a chat is answered there. RuntimeError where the process ends or the time is over, with its log's end."""
    ask = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
    end = time.monotonic() + READY
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < end and process.returncode is None:
            try:
                async with http.post(f"{url}/v1/chat/completions", json=ask) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.3)
    said = await asyncio.to_thread(log.read_text, errors="replace")
    what = f"did not answer within {READY:.0f} s" if process.returncode is None else f"ended with {process.returncode}"
    raise RuntimeError(f"it {what}; its log ends: {said[-600:]}")
