"""Images, sound, rankings and responses end to end: the official client, the real Envoy, simulated nodes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
import openai
import pytest

from support.stack import Stack, node, policy
from support.witness import Witness, status
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
MODELS = [
    {"name": "m"},
    {"name": "flux", "types": ["image"]},
    {"name": "whisper", "types": ["audio"]},
    {"name": "tts", "types": ["audio"]},
    {"name": "bge", "types": ["rerank"]},
]
WAVE = bytes(range(256)) * 400


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    names = tuple((model["name"], str(model["name"])) for model in MODELS)
    async with Fleet([NodeSpec(name=name, models=names, zero=True) for name in "ab"]) as fleet:  # type: ignore[arg-type]
        yield fleet


def serve(fleet: Fleet) -> list[dict[str, Any]]:
    return [node(name, one.port, models=MODELS) for name, one in fleet.nodes.items()]


def client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)


async def test_the_official_client_draws_listens_speaks_and_responds(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, client(stack) as ask:
        drawn = await ask.images.generate(model="flux", prompt="a bridge", n=2, response_format="b64_json")
        assert drawn.data is not None
        assert [base64.b64decode(one.b64_json or "")[:4] for one in drawn.data] == [b"\x89PNG"] * 2
        edited = await ask.images.edit(model="flux", prompt="a bridge", image=("a.png", b"\x89PNG", "image/png"))
        assert edited.data
        heard = await ask.audio.transcriptions.create(model="whisper", file=("a.wav", WAVE, "audio/wav"))
        assert heard.text
        plain = await ask.audio.translations.create(model="whisper", file=("a.wav", WAVE, "audio/wav"))
        assert plain.text == heard.text
        words = [
            event.delta
            async for event in await ask.audio.transcriptions.create(
                model="whisper", file=("a.wav", WAVE, "audio/wav"), stream=True
            )
            if event.type == "transcript.text.delta"
        ]
        assert "".join(words) == heard.text
        spoken = await ask.audio.speech.create(model="tts", voice="alloy", input="hello", response_format="wav")
        assert spoken.content[:4] == b"RIFF"
        whole = await ask.responses.create(model="m", input="hi")
        streamed = await ask.responses.create(model="m", input="hi", stream=True)
        deltas = [event.delta async for event in streamed if event.type == "response.output_text.delta"]
        assert "".join(deltas) == whole.output_text != ""


async def test_documents_are_ranked(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, aiohttp.ClientSession() as http:
        asked = {"query": "q", "documents": ["a", "b", "c"], "top_n": 2}
        async with http.post(f"{stack.url}/v1/rerank", json=asked) as answer:
            told = await answer.json()
        assert (answer.status, told["model"], len(told["results"])) == (200, "bge", 2), told


async def post(url: str, form: aiohttp.FormData | bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.post(url, data=form, headers=named) as answer:
        return answer.status, await answer.json(content_type=None)


def make_form(**fields: str | bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value, filename="a.wav" if isinstance(value, bytes) else None)
    return form


async def test_a_form_is_refused_before_it_reaches_a_node(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack:
        url = f"{stack.url}/v1/audio/transcriptions"
        twice = make_form(file=WAVE, model="whisper")
        twice.add_field("model", "tts")
        mixed = {"content_type": "multipart/form-data; boundary=a; charset=utf-16"}
        for form, headers, wanted, code in (
            (twice, {}, 400, "duplicate_key"),
            (make_form(file=WAVE, model=b"whisper"), {}, 400, "invalid_form"),
            (make_form(file=WAVE, model=""), {}, 400, "invalid_type"),
            (make_form(file=WAVE, model="whisper", stream="yes"), {}, 400, "invalid_type"),
            (make_form(file=WAVE, model="nobody"), {}, 404, "model_not_found"),
            (make_form(file=WAVE), {}, 400, "missing_model"),
            (b"--a--\r\n", mixed, 400, "invalid_form"),
            (b"--a\r\n", {"content_type": "multipart/form-data; boundary=a"}, 400, "invalid_form"),
            (b"", {"content_type": "multipart/form-data; boundary=a"}, 400, "invalid_form"),
            (b"a=b", {"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type"),
            (
                make_form(file=WAVE, model="whisper"),
                {"content_encoding": "gzip"},
                415,
                "unsupported_content_encoding",
            ),
        ):
            answered, told = await post(url, form, **headers)
            assert (answered, told["error"]["code"]) == (wanted, code), told
        answered, told = await post(f"{stack.url}/v1/chat/completions", make_form(model="m"))
        assert (answered, told["error"]["code"]) == (415, "unsupported_content_type")
        assert all(not one.state()["requests"] for one in fleet.nodes.values())


@pytest.mark.parametrize("before", [True, False])
async def test_a_form_is_renamed_for_each_node_and_else_left_as_it_is(before: bool) -> None:
    own = {"types": ["audio"], "name": "whisper"}
    async with Witness(status(200)) as good, Witness(status(503)) as bad:
        objects = [
            node("good", good.port, models=[{**own, "servedAs": "openai/whisper-large"}]),
            node("bad", bad.port, models=[{**own, "servedAs": "w"}]),
        ]
        async with Stack(*objects) as stack:
            field = b'--b1\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
            file = b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + WAVE + b"\r\n"
            file = file.replace(b"%", b"%%")
            body = (field + file if before else file + field) + b"--b1--\r\n"
            for _ in range(100):
                if good.heard and bad.heard:
                    break
                answered, _ = await post(
                    f"{stack.url}/v1/audio/transcriptions",
                    body % b"whisper",
                    content_type="multipart/form-data; boundary=b1",
                )
                assert answered == 200
            assert {heard.body for heard in good.heard} == {body % b"openai/whisper-large"}
            assert {heard.body for heard in bad.heard} == {body % b"w"}
            assert {heard.path for heard in good.heard} == {"/v1/audio/transcriptions"}


async def test_a_type_has_its_default_model() -> None:
    async with Witness(status(200)) as heard:
        default = policy("sound", match={"types": ["audio"]}, defaultModel="tts")
        async with Stack(node("a", heard.port, models=MODELS), default) as stack:
            assert (await post(f"{stack.url}/v1/images/generations", b"{}", content_type="application/json"))[0] == 200
            assert (await post(f"{stack.url}/v1/audio/transcriptions", make_form(file=WAVE)))[0] == 200
    image, sound = heard.heard
    assert image.body == b'{"model":"flux"}'
    assert b'\r\nContent-Disposition: form-data; name="model"\r\n\r\ntts\r\n--' in sound.body
    assert WAVE in sound.body


MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "limit"), [("audio/transcriptions", 26 * MIB), ("images/edits", 26 * MIB), ("chat/completions", 16 * MIB)]
)
async def test_each_path_has_its_own_exact_limit(path: str, limit: int) -> None:
    models = [{"name": "m", "types": ["text", "image", "audio"], "servedAs": "longer-name"}]
    async with Witness(status(200)) as heard, Stack(node("a", heard.port, models=models)) as stack:
        url = f"{stack.url}/v1/{path}"
        if path.startswith("chat"):
            head, tail, kind = b'{"model":"m","x":"', b'"}', "application/json"
        else:
            head = b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            tail = b'\r\n--b1\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b1--\r\n'
            kind = "multipart/form-data; boundary=b1"
        body = head + b"a" * (limit - len(head) - len(tail)) + tail
        assert (await post(url, body, content_type=kind))[0] == 200
        assert len(heard.heard[0].body) == limit + len("longer-name") - 1
        async with aiohttp.ClientSession() as http:
            more = {"content-type": kind}
            with suppress(aiohttp.ClientOSError):  # the gateway does not wait for the rest
                async with http.post(f"{url}?a=b", data=body + b" ", headers=more) as answer:
                    assert (answer.status, (await answer.json())["error"]["message"]) == (
                        413,
                        f"The body is larger than {limit // MIB} MiB.",
                    )
        assert len(heard.heard) == 1
