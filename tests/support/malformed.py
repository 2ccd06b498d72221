"""Requests that nobody should send, for every path, drawn from a seed: none may reach a node or trouble the gateway."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from support.stack import node
from weighbridge_operator.xds.paths import GEMINI, PATHS

MODEL = "m"
JSON_PATHS = (*(path.path for path in PATHS), f"{GEMINI}{MODEL}:generateContent", f"{GEMINI}{MODEL}:countTokens")
FORM_PATHS = tuple(path.path for path in PATHS if path.form)
MARK = "b0undary"
_BOMB = gzip.compress(bytes(8 << 20))
_ODD_TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json-patch+json",
    "",
    "application/jsonp",
    "application/json; charset=utf-16",
)
_ODD_BOUNDARIES = (
    "",
    "; boundary=",
    '; boundary="a;b"',
    "; boundary=a; boundary=b",
    "; boundary*=a",
    "; charset=utf-7",
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """One request. `about` says in a word what is wrong with it."""

    about: str
    path: str
    content_type: str
    body: bytes
    encoding: str | None = None


def draw(seed: int, count: int) -> Iterator[Malformed]:
    """`count` requests, the same for the same seed: every kind of fault on every path in turn."""
    chance = random.Random(seed)
    plain = [(path, make) for path in JSON_PATHS for make in _JSON]
    forms = [(path, make) for path in FORM_PATHS for make in _FORMS]
    for number in range(count):
        if number % 4 == 3:
            path, make_form = forms[number // 4 % len(forms)]
            content_type, body = make_form(chance)
            yield Malformed(make_form.__name__, path, content_type, body)
            continue
        path, make = plain[number % len(plain)]
        body = make(chance)
        match chance.randrange(12):
            case 0:
                yield Malformed("content_type", path, chance.choice(_ODD_TYPES), body)
            case 1:
                yield Malformed("gzip_bomb", path, "application/json", _BOMB, "gzip")
            case _:
                yield Malformed(make.__name__, path, "application/json; charset=utf-8", body)


def _deep(chance: random.Random) -> bytes:
    depth = chance.choice((101, 1_000, 100_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return b'{"model":"m","x":' + opening * depth + (b"1" if opening != b"[" else b"") + closing * depth + b"}"


def _unclosed(chance: random.Random) -> bytes:
    return b'{"model":"m","x":' + chance.choice((b"[", b'{"a":', b'"', b'["\\u00')) * chance.choice((1, 50, 50_000))


def _huge(chance: random.Random) -> bytes:
    filling = chance.choice((b"a", b"\\u00e4", "漢".encode(), b'\\"'))
    return b'{"model":"m","x":"' + filling * ((1 << 20) // len(filling)) + chance.choice((b'"', b'"}}', b"\x00", b""))


def _twice(chance: random.Random) -> bytes:
    key = chance.choice((b"model", b"Model", b"STREAM", b"stream", b"messages", b"a", b""))
    return b'{"model":"m","a":1,"":2,"stream":false,"messages":[],"%b":"other"}' % key


def _constant(chance: random.Random) -> bytes:
    odd = (b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"+1", b"0x1", b"1e", b"tru", b"undefined", b"'a'")
    return b'{"model":"m","x":%b}' % chance.choice(odd)


def _wrong_type(chance: random.Random) -> bytes:
    odd = (b"1", b"null", b"true", b"[]", b"{}", b'["m"]', b'{"model":"m"}')
    return b'{"model":%b}' % chance.choice(odd)


def _no_object(chance: random.Random) -> bytes:
    return chance.choice((b"", b" ", b"[]", b"null", b'"model"', b"1", b"{}{}", b'{"model":"m"} x', b"\xef\xbb\xbf{}"))


def _bytes(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 30, 3_000, 100_000)))


def _damaged(chance: random.Random) -> bytes:
    text = bytearray(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi é"}]}).encode())
    text.insert(chance.randrange(1, len(text)), chance.choice((0, 1, 31, 128, 192, 255)))
    return bytes(text)


def _escaped_key(chance: random.Random) -> bytes:
    return b'{"mod%bl":"m","model":"other"}' % chance.choice((b"\\u0065", b"\\u0045", b"\\/", b"\\n"))


def _odd_name(chance: random.Random) -> bytes:
    odd = ("m\\u0000", "m\\r\\nx-weighbridge-route: a", "../m", "m m", "ＭＭ", "m" * 100_000, "%6d", "no such model")
    return f'{{"model":"{chance.choice(odd)}"}}'.encode()


_JSON: tuple[Callable[[random.Random], bytes], ...] = (
    _deep,
    _unclosed,
    _huge,
    _twice,
    _constant,
    _wrong_type,
    _no_object,
    _bytes,
    _damaged,
    _escaped_key,
    _odd_name,
)


def _part(head: bytes, value: bytes) -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (MARK.encode(), head, value)


def _named(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return _part(b'Content-Disposition: form-data; name="%b"%b' % (name, more), value)


_END = b"--%b--\r\n" % MARK.encode()
_KIND = f"multipart/form-data; boundary={MARK}"


def _odd_boundary(chance: random.Random) -> tuple[str, bytes]:
    return "multipart/form-data" + chance.choice(_ODD_BOUNDARIES), _named(b"model", b"m") + _END


def _no_end(chance: random.Random) -> tuple[str, bytes]:
    whole = _named(b"model", b"m") + _named(b"file", chance.randbytes(50_000), b'; filename="a"') + _END
    return _KIND, whole[: chance.randrange(len(whole) - 4)]


def _twice_in_form(chance: random.Random) -> tuple[str, bytes]:
    name = chance.choice((b"model", b"stream"))
    again = chance.choice((name, name.title()))
    return _KIND, _named(name, b"false") + _named(b"file", b"x" * 100_000) + _named(again, b"true") + _END


def _bare_feeds(chance: random.Random) -> tuple[str, bytes]:
    whole = _named(b"model", b"m") + _named(b"a", b"b") + _END
    return _KIND, whole.replace(b"\r\n", chance.choice((b"\n", b"\r", b"\r\r\n")))


def _hidden_part(chance: random.Random) -> tuple[str, bytes]:
    feed = chance.choice((b"\n", b"\r", b" ", b""))
    hidden = b'%b--%b\nContent-Disposition: form-data; name="model"\n\nother' % (feed, MARK.encode())
    return _KIND, _named(b"file", hidden, b'; filename="a"') + _named(b"model", b"m") + _END


def _odd_head(chance: random.Random) -> tuple[str, bytes]:
    odd = (
        b"",
        b"Content-Disposition: form-data",
        b'Content-Disposition: attachment; name="model"',
        b'Content-Disposition: form-data; name="a"; name="model"',
        b"Content-Disposition: form-data; name*=utf-8''model",
        b'Content-Disposition: form-data; name="mo\\del"',
        b'Content-Disposition: form-data; name="model"; filename="m"',
        b'Content-Disposition: form-data;\r\n name="model"',
        b'Content-Disposition: form-data; name="a"\nX: y',
        b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="model"',
        b'Content-Disposition: form-data; name="a"\r\nX: ' + b"y" * 10_000,
    )
    return _KIND, _part(chance.choice(odd), b"other") + _named(b"model", b"m") + _END


def _many_parts(_: random.Random) -> tuple[str, bytes]:
    return _KIND, _named(b"a", b"1") * 1_100 + _named(b"model", b"m") + _END


def _outside(chance: random.Random) -> tuple[str, bytes]:
    whole = _named(b"model", b"m") + _END
    return _KIND, chance.choice((b"preamble\r\n" + whole, b"\r\n" + whole, whole + b"epilogue", whole + whole))


def _noise(chance: random.Random) -> tuple[str, bytes]:
    return _KIND, chance.randbytes(chance.choice((1, 100, 200_000)))


_FORMS: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (
    _odd_boundary,
    _no_end,
    _twice_in_form,
    _bare_feeds,
    _hidden_part,
    _odd_head,
    _many_parts,
    _outside,
    _noise,
)


TYPES = ["text", "embedding", "image", "audio", "rerank"]


def make_nodes(port: int) -> list[dict[str, Any]]:
    """Each API, each type, and two models, so that none is a default; half of them renamed."""
    models = [{"name": MODEL, "types": TYPES, "servedAs": "own"}, {"name": "n", "types": TYPES}]
    texts = [{"name": MODEL}, {"name": "n", "servedAs": "own"}]
    return [
        node("openai", port, models=models),
        node("anthropic", port, models=texts, format="anthropic"),
        node("gemini", port, models=texts, format="gemini"),
    ]
