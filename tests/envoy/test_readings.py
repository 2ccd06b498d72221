"""Bodies in which one reader finds another model than the next: refused; and what clients write that only looks so."""

from __future__ import annotations

import json

import aiohttp
import pytest

from support.stack import Stack, node
from support.witness import Witness, status

pytestmark = pytest.mark.envoy
JSON, FORM = "application/json", "multipart/form-data; boundary=b1"
TYPES = ["text", "audio"]
ODD_PARAMETERS = (
    "; charset=utf-7",
    "; charset=utf-16le",
    '; Charset="UTF-7"',
    "; charset=utf-8; charset=utf-7",
    "; charset =utf-7",
    "; charset*=utf-7",
    "; a=b=charset",
    '; a="; charset=utf-7"',
    ";, multipart/form-data; boundary=x",
    "; utf-7",
    "l",
)
PLAIN_PARAMETERS = ("", ";", "; charset=utf-8", ';charset="UTF-8"', "; Charset=us-ascii", "; utf-8", "; version=1; a=b")
ODD_BODIES = (
    b'{"model":"m","MODEL":"n"}',
    b'{"Model":"n","model":"m"}',
    b'{"Model":"n"}',
    b'{"model":"m","MOD\\u0045L":"n"}',
    b'{"model":"m","STREAM":true}',
)


def write_form(*parts: tuple[str, str], end: str = "\r\n") -> bytes:
    """A form of fields, each given as the parameters behind form-data, with more lines of its head, and its value."""
    head = "--b1\r\nContent-Disposition: form-data; "
    return ("".join(f"{head}{named}\r\n\r\n{value}\r\n" for named, value in parts) + f"--b1--{end}").encode()


MODEL = ('name="model"', "m")
ODD_FORMS = (
    write_form(MODEL, ('name="Model"', "n")),
    write_form(('name="MODEL"', "n")),
    write_form(('name="model"\r\nContent-Transfer-Encoding: base64', "bQ==")),
    write_form(('name="_charset_"', "utf-7"), MODEL),
    write_form(MODEL, ('name="file"; filename="a\\"; name=\\"model"', "n")),
    write_form(MODEL, end="\r\n--b1\r\n"),
)
PLAIN_FORMS = (
    write_form(MODEL, ('name="file"; filename="name=model.wav"', "x")),
    write_form(MODEL, ('name="file"; filename="my name = x.wav"', "x")),
    write_form(MODEL, ('name="file"; filename="say \\"a\\\\b\\".wav"', "x")),
    write_form(('name="file"; filename="a.wav"\r\nContent-Type: audio/wav', "x"), MODEL, end="\r\n\r\n"),
    write_form(('name="model"\r\nContent-Type: text/plain; charset=ISO-8859-1', "m")),
)


async def test_what_can_be_read_in_two_ways_reaches_no_node_and_what_cannot_does() -> None:
    async with Witness(status(200)) as one, Witness(status(200)) as other, aiohttp.ClientSession() as http:
        models = [[{"name": name, "types": TYPES}] for name in "mn"]
        async with Stack(node("a", one.port, models=models[0]), node("b", other.port, models=models[1])) as stack:

            async def post(path: str, kind: str, body: bytes) -> tuple[int, str]:
                async with http.post(stack.url + path, data=body, headers={"content-type": kind}) as answer:
                    told = await answer.json()
                    return answer.status, told.get("error", {}).get("code", "")

            chat, sound = "/v1/chat/completions", "/v1/audio/transcriptions"
            for more in ODD_PARAMETERS:
                body = b'{"model":"m","+AG0AbwBkAGUAbA-":"n"}'
                assert await post(chat, JSON + more, body) == (415, "unsupported_content_type"), more
                assert await post(sound, JSON + more, body) == (415, "unsupported_content_type"), more
            for body in ODD_BODIES:
                for kind in (JSON, f"{JSON}; charset=utf-8"):
                    assert (await post(chat, kind, body))[0] == 400, body
            for body in ODD_FORMS:
                assert await post(sound, FORM, body) == (400, "invalid_form"), body
            assert one.heard == other.heard == []

            sent = [(chat, JSON + more, json.dumps({"model": "m"}).encode()) for more in PLAIN_PARAMETERS]
            sent += [(sound, FORM, body) for body in PLAIN_FORMS]
            for path, kind, body in sent:
                assert await post(path, kind, body) == (200, ""), (kind, body)
            assert [heard.body for heard in one.heard] == [body for _, _, body in sent]
            assert other.heard == []


async def test_a_charset_is_refused_in_the_shape_of_each_api() -> None:
    async with Witness(status(200)) as own, aiohttp.ClientSession() as http:
        objects = [
            node("c", own.port, models=[{"name": "m"}], format="anthropic"),
            node("g", own.port, models=[{"name": "m"}], format="gemini"),
        ]
        async with Stack(*objects) as stack:
            for path in ("/v1/messages", "/v1beta/models/m:generateContent"):
                headers = {"content-type": f"{JSON}; charset=utf-7"}
                async with http.post(stack.url + path, data=b'{"model":"m"}', headers=headers) as answer:
                    told = (await answer.json())["error"]
                    assert answer.status == 415
                    assert "UTF-8" in told["message"]
                    assert told.get("type") == "invalid_request_error" or told["status"] == "INVALID_ARGUMENT"
            assert own.heard == []
