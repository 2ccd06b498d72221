"""Hosted providers and what nodes get to see: TLS, Host, base path, credentials, and nothing of the caller's."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import yaml

from support.authority import Authority
from support.envoy import free_port
from support.stack import Stack, node, policy
from support.witness import Witness, status
from weighbridge_operator.xds.names import HOPS_HEADER
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]
FIXTURES = Path(__file__).parent.parent / "sources" / "fixtures"
CERTIFICATE = FIXTURES / "qwen.internal.crt"
KEY = "sk-provider-0123456789"


def secret(name: str, **entries: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries}


def provider_spec(name: str = "provider", model: str = "qwen-max-latest") -> NodeSpec:
    return NodeSpec(
        name=name,
        models=((model, model),),
        base="/compatible-mode/v1",
        key=KEY,
        insisted_host="qwen.internal",
        tls_cert=str(CERTIFICATE),
        tls_key=str(FIXTURES / "qwen.internal.key"),
        zero=True,
    )


def provider(port: int, served: str = "qwen-max-latest", **spec: Any) -> dict[str, Any]:
    address = {"host": "127.0.0.1", "port": port, "path": "/compatible-mode/v1"}
    return node(
        "provider",
        port,
        engine="openai",
        address=address,
        tls={"caSecretRef": {"name": "node-ca"}, "serverName": "qwen.internal"},
        credentials={"secretRef": {"name": "provider", "key": "apiKey"}},
        models=[{"name": "m", "servedAs": served}],
        **spec,
    )


def secrets(key: str = KEY) -> list[dict[str, Any]]:
    return [secret("node-ca", **{"ca.crt": CERTIFICATE.read_text()}), secret("provider", apiKey=key)]


def client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="sk-callers-own", max_retries=0)


async def test_a_provider_that_insists_on_everything_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Fleet([provider_spec()]) as fleet:
        hosted = provider(fleet.nodes["provider"].port)
        async with Stack(hosted, *secrets()) as stack, client(stack) as ask:
            whole = await ask.chat.completions.create(model="m", messages=HI)
            assert (whole.model, bool(whole.choices[0].message.content)) == ("qwen-max-latest", True)
            stream = await ask.chat.completions.create(model="m", messages=HI, stream=True)
            assert [chunk async for chunk in stream][-1].choices[0].finish_reason
            legacy = await ask.completions.create(model="m", prompt="hi")
            assert legacy.choices[0].text
            report, _ = await stack.reporter.reports.wait_newer()
            envoy = stack.envoys[0]
            shown = [
                await envoy.admin("/config_dump?include_eds"),
                await envoy.admin("/clusters"),
                str(asdict(report)),
                caplog.text,
                envoy.log,
            ]
            encoded = base64.b64encode(b"Bearer " + KEY.encode()).decode()
            for text in shown:
                assert KEY not in text
                assert encoded not in text
            # A new key is used at once, and a provider that refuses it says so itself.
            await stack.apply(provider(fleet.nodes["provider"].port), *secrets("sk-wrong"))
            with pytest.raises(openai.AuthenticationError, match="API key is missing or wrong"):
                await ask.chat.completions.create(model="m", messages=HI)
            await stack.apply(provider(fleet.nodes["provider"].port), *secrets())
            assert (await ask.chat.completions.create(model="m", messages=HI)).model == "qwen-max-latest"


async def test_a_provider_with_another_certificate_gets_no_request() -> None:
    async with Fleet([provider_spec()]) as fleet:
        port = fleet.nodes["provider"].port
        other = provider(port)
        other["spec"]["tls"]["serverName"] = "other.internal"
        async with Stack(other, *secrets()) as stack, client(stack) as ask:
            with pytest.raises(openai.InternalServerError) as refused:
                await ask.chat.completions.create(model="m", messages=HI)
            assert refused.value.status_code == 503
            assert refused.value.code == "node_failed"
            assert fleet.nodes["provider"].state()["requests"] == {}


@pytest.mark.parametrize("signed", [True, False])
async def test_tls_without_authorities_of_its_own_trusts_the_systems(signed: bool, tmp_path: Path) -> None:
    trusted = CERTIFICATE if signed else Authority(tmp_path).certificate
    async with Fleet([provider_spec()]) as fleet:
        hosted = provider(fleet.nodes["provider"].port)
        hosted["spec"]["tls"] = {"serverName": "qwen.internal"}
        stack = Stack(hosted, secret("provider", apiKey=KEY), authorities=trusted.read_bytes())
        async with stack, client(stack) as ask:
            if signed:
                assert (await ask.chat.completions.create(model="m", messages=HI)).model == "qwen-max-latest"
                return
            with pytest.raises(openai.InternalServerError, match="The node failed"):
                await ask.chat.completions.create(model="m", messages=HI)


async def test_up_trusts_whom_the_machine_trusts(tmp_path: Path) -> None:
    async with Fleet([provider_spec()]) as fleet:
        hosted = provider(fleet.nodes["provider"].port)
        hosted["spec"]["tls"] = {"serverName": "qwen.internal"}
        path, port = tmp_path / "hosted.yaml", free_port()
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump_all([hosted, secret("provider", apiKey=KEY)]))
        flags = ("-f", str(path), "--port", str(port), "--admin", f"127.0.0.1:{free_port()}")
        flags = (*flags, "--state", str(tmp_path / "state"))
        command = "import sys; from weighbridge_api.console import main; sys.exit(main())"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", command, "up", *flags), env=os.environ | {"SSL_CERT_FILE": str(CERTIFICATE)}
        )
        try:
            async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as ask:
                assert await first_answer(ask) == "qwen-max-latest"
        finally:
            process.terminate()
            await process.wait()


async def first_answer(ask: openai.AsyncOpenAI) -> str:
    """The model that answers, once the gateway serves."""
    async with asyncio.timeout(30):
        while True:
            with suppress(openai.APIConnectionError, openai.InternalServerError):
                return (await ask.chat.completions.create(model="m", messages=HI)).model
            await asyncio.sleep(0.1)


@pytest.fixture
async def mixed() -> AsyncIterator[Fleet]:
    async with Fleet([provider_spec(), NodeSpec(name="own", models=(("m", "m"),), zero=True)]) as fleet:
        yield fleet


def serve_mixed(fleet: Fleet, local: float = 1.0) -> list[dict[str, Any]]:
    return [
        provider(fleet.nodes["provider"].port, capacity=1.0),
        node("own", fleet.nodes["own"].port, capacity=local),
        *secrets(),
    ]


@pytest.mark.parametrize("local", [1.0, 3.0])
async def test_a_provider_and_an_own_node_share_a_model_by_their_room(mixed: Fleet, local: float) -> None:
    async with Stack(*serve_mixed(mixed, local)) as stack, client(stack) as ask:
        seen = Counter([(await ask.chat.completions.create(model="m", messages=HI)).model for _ in range(200)])
        assert set(seen) == {"m", "qwen-max-latest"}
        assert abs(seen["qwen-max-latest"] - 200 / (1 + local)) < 45, seen


@pytest.mark.parametrize(("gone", "left"), [("own", "qwen-max-latest"), ("provider", "m")])
async def test_a_provider_and_an_own_node_stand_in_for_each_other(mixed: Fleet, gone: str, left: str) -> None:
    async with Stack(*serve_mixed(mixed)) as stack, client(stack) as ask:
        mixed.nodes[gone].control({"down": True})
        for _ in range(30):
            assert (await ask.chat.completions.create(model="m", messages=HI)).model == left


async def test_a_retry_takes_no_key_along() -> None:
    async with Witness(status(503)) as hosted, Witness() as own:
        objects = [
            node(
                "hosted", hosted.port, engine="openai", credentials={"secretRef": {"name": "provider", "key": "apiKey"}}
            ),
            node("own", own.port, capacity=0.01),
            *secrets(),
        ]
        async with Stack(*objects) as stack:
            for _ in range(2):
                answered, _ = await ask_with(stack, "m", PRIVATE)
                assert answered == 200
        assert hosted.heard
        assert all(heard.header("authorization") == [f"Bearer {KEY}"] for heard in hosted.heard)
        assert own.heard
        for heard in own.heard:
            assert heard.header("authorization") == []
            assert {name for name, _ in heard.headers if name.startswith("x-weighbridge")} == {HOPS_HEADER}


SPOOFED = {
    "x-weighbridge-route": "text whole other 0 0",
    "x-weighbridge-served": "/evil;m=evil;",
    "x-weighbridge-node": "evil",
    "x-weighbridge-policy": "evil",
    "x-envoy-original-path": "/evil",
    "x-envoy-original-host": "evil",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-upstream-rq-per-try-timeout-ms": "1",
    "x-envoy-max-retries": "5",
    "x-envoy-retry-on": "5xx",
    "x-envoy-retriable-status-codes": "500",
    "x-envoy-hedge-on-per-try-timeout": "true",
    "x-envoy-decorator-operation": "evil",
    "x-envoy-internal": "true",
    "x-envoy-force-trace": "1",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil",
    "x-real-ip": "10.0.0.1",
    "forwarded": "for=10.0.0.1",
}
PRIVATE = {
    "authorization": "Bearer sk-callers-own",
    "x-api-key": "sk-callers-own",
    "api-key": "sk-callers-own",
    "cookie": "session=callers-own",
    "proxy-authorization": "Basic callers-own",
}


async def ask_with(stack: Stack, model: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    body = {"model": model, "messages": HI}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_neither_callers_secrets_nor_spoofed_headers_reach_a_node() -> None:
    async with Witness() as plain, Witness() as renamed, Witness() as keyed:
        objects = [
            node("plain", plain.port, "plain"),
            node("renamed", renamed.port, models=[{"name": "renamed", "servedAs": "own"}]),
            node(
                "keyed",
                keyed.port,
                models=[{"name": "keyed"}],
                credentials={"secretRef": {"name": "provider", "key": "apiKey"}},
            ),
            policy("keyed", match={"models": ["keyed"]}, retry={"attempts": 0}),
            secret("provider", apiKey=KEY),
        ]
        async with Stack(*objects) as stack:
            for model, witness in (("plain", plain), ("renamed", renamed), ("keyed", keyed)):
                answered, answer = await ask_with(stack, model, {**SPOOFED, **PRIVATE})
                assert (answered, answer["model"]) == (200, "own" if model == "renamed" else model)
                (heard,) = witness.heard
                assert heard.path == "/v1/chat/completions"
                assert "callers-own" not in str(heard.headers)
                assert "evil" not in str(heard.headers)
                assert "10.0.0.1" not in str(heard.headers)
                assert heard.header("authorization") == ([f"Bearer {KEY}"] if model == "keyed" else [])
                known = {name for name, _ in heard.headers}
                assert {name for name in known if name.startswith(("x-weighbridge", "x-envoy"))} == {HOPS_HEADER}


@pytest.mark.parametrize("name", ["x_weighbridge_route", "X_Weighbridge_Served", "x_api_key", "x-weighbridge_route"])
async def test_underscore_twins_are_refused(name: str) -> None:
    async with Witness() as witness, Stack(node("a", witness.port)) as stack:
        answered, answer = await ask_with(stack, "m", {name: "text whole other 0 0"})
        assert answered == 400
        assert answer["error"]["code"] == "invalid_http"
        assert witness.heard == []
