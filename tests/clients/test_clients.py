"""Clients that people use, each a process of its own with its own packages, unchanged but for the base URL.

`make test-clients` installs them beside .venv, by tests/clients/requirements.lock and package-lock.json, and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.envoy import free_port
from support.stack import Stack, node, secret
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = [pytest.mark.clients, pytest.mark.envoy]
HERE = Path(__file__).parent
KEY = "sk-client"
LIMIT = 90.0  # seconds; LangChain and LiteLLM take several to be imported
TOKENS = 12  # of an answer


@pytest.fixture
async def gateway() -> AsyncIterator[Stack]:
    """Two nodes with a chat and an embedding model, one that speaks Anthropic's API, a dead one, and a caller's key."""
    specs = [NodeSpec(name=name, models=(("m", "m"), ("e", "e"), ("claude", "claude")), answer=TOKENS) for name in "ab"]
    models = [{"name": "m"}, {"name": "e", "types": ["embedding"]}]
    async with Fleet(specs) as fleet:
        nodes = [node(name, one.port, models=models) for name, one in fleet.nodes.items()]
        claude = node("claude", fleet.nodes["b"].port, "claude", engine="openai", format="anthropic")
        dead = node("dead", free_port(), "dead")
        async with Stack(*nodes, claude, dead, secret("callers", someone=KEY), keys="callers") as stack:
            yield stack


def place() -> Path:
    """Where the clients are installed."""
    found = os.environ.get("CLIENTS")
    assert found, "run it with: make test-clients"
    return Path(found)


async def run(*command: str, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


async def run_python(stack: Stack, script: str) -> dict[str, Any]:
    out = await run(str(place() / "bin" / "python"), "-I", str(HERE / script), stack.url, KEY)
    said: dict[str, Any] = json.loads(out.splitlines()[-1])
    return said


def check(said: dict[str, Any], tokens: int = TOKENS) -> None:
    """A whole answer, and the same length in a stream of several parts."""
    assert len(said["whole"].split()) == tokens
    assert len(said["parts"]) > 3
    assert len("".join(said["parts"]).split()) == tokens
    assert said["tokens"] > tokens
    assert said.get("embedded", 2) == 2


#: What the package raises, in Python and in Node alike.
OPENAI = {
    "unknown": ["NotFoundError", 404, "model_not_found"],
    "dead": ["InternalServerError", 503, "node_failed"],
    "stranger": ["AuthenticationError", 401, "invalid_api_key"],
}


def check_errors(errors: dict[str, Any]) -> None:
    # By the time of the second request for it the dead node may be known to be dead.
    assert errors["dead"][2] in ("node_failed", "no_node_available")
    assert {**errors, "dead": [*errors["dead"][:2], "node_failed"]} == OPENAI


async def test_openai_of_python(gateway: Stack) -> None:
    said = await run_python(gateway, "openai_client.py")
    check(said)
    assert said["models"] == ["claude", "dead", "e", "m"]
    check_errors(said["errors"])


async def test_openai_of_node(gateway: Stack) -> None:
    program = shutil.which("node")
    if program is None or not (place() / "node_modules").is_dir():
        pytest.skip("not run: there is no node or npm in PATH; Debian's packages nodejs and npm bring them")
    script = place() / "openai_node.mjs"
    shutil.copyfile(HERE / script.name, script)  # Node looks for packages beside the script
    said = json.loads(await run(program, str(script), gateway.url, KEY))
    check(said)
    assert said["norm"] == pytest.approx(1, abs=1e-3)
    assert said["models"] == ["claude", "dead", "e", "m"]
    check_errors(said["errors"])


async def test_langchain(gateway: Stack) -> None:
    said = await run_python(gateway, "langchain_client.py")
    check(said)
    check_errors(said["errors"])


async def test_litellm(gateway: Stack) -> None:
    said = await run_python(gateway, "litellm_client.py")
    check(said)
    assert said["errors"] == {
        "unknown": ["NotFoundError", 404],
        "dead": ["ServiceUnavailableError", 503],
        "stranger": ["AuthenticationError", 401],
    }


async def test_anthropic(gateway: Stack) -> None:
    said = await run_python(gateway, "anthropic_client.py")
    check(said)
    assert said["errors"] == {"unknown": ["NotFoundError", 404], "stranger": ["AuthenticationError", 401]}


async def test_curl(gateway: Stack) -> None:
    chat = f"{gateway.url}/v1/chat/completions"
    flags = ("--silent", "--show-error", "--fail-with-body", "-H", "content-type: application/json")
    key = ("-H", f"authorization: Bearer {KEY}")
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    whole = json.loads(await run("curl", *flags, *key, chat, "-d", json.dumps(body)))
    assert whole["choices"][0]["message"]["content"]
    stream = await run("curl", "--no-buffer", *flags, *key, chat, "-d", json.dumps(body | {"stream": True}))
    events = [line for line in stream.splitlines() if line]
    assert len(events) > 3
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    for wrong, given in ((body | {"model": "nobody"}, key), (body, ())):
        with pytest.raises(AssertionError, match=r"returned error: 40[14]"):
            await run("curl", *flags, *given, chat, "-d", json.dumps(wrong))
