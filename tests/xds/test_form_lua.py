"""The entrance's reading of forms, run in LuaJIT as Envoy runs it, held to what Python's email package says of them."""

from __future__ import annotations

import email.policy
import time
from collections.abc import Callable
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime
from urllib3 import encode_multipart_formdata

from weighbridge_operator.xds.scripts import write_entrance

Outcome = tuple[str, Any]  # "ok" and what is asked for, or "refused" and why
Reader = Callable[[bytes, bytes], Outcome]
MARK = b"xYz.1"
GET = "return function(text) return function(first, last) return last < first and '' or text:sub(first, last) end end"


@pytest.fixture(scope="module")
def read() -> Reader:
    lua: Any = LuaRuntime(encoding=None)
    # boundary_of is local to the script, as all of it but what is asked from outside.
    lua.execute(write_entrance().encode() + b"\nread_boundary = boundary_of\n")
    names, view = lua.globals(), lua.execute(GET.encode())

    def ask(body: bytes, content_type: bytes) -> Outcome:
        boundary = names[b"read_boundary"](content_type)
        if boundary is None:
            return "refused", "boundary"
        answer = names[b"read_form"](view(body), len(body), boundary)
        if isinstance(answer, tuple):
            return "refused", answer[1].decode()
        return "ok", {key.decode(): value for key, value in answer.items()}

    return ask


def part(name: str, value: bytes, more: str = "", head: str = "") -> bytes:
    return b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n%b\r\n%b\r\n' % (
        MARK,
        name.encode(),
        more.encode(),
        head.encode(),
        value,
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--%b--\r\n" % MARK


def ask(read: Reader, *parts: bytes) -> Outcome:
    return read(form(*parts), b"multipart/form-data; boundary=" + MARK)


FILE = part("file", bytes(range(256)) * 500, '; filename="a.wav"', "Content-Type: audio/wav\r\n")


@pytest.mark.parametrize("before", [True, False])
def test_the_model_is_found_before_and_behind_the_file(read: Reader, before: bool) -> None:
    parts = [part("model", b"m"), FILE] if before else [FILE, part("model", b"m")]
    outcome, told = ask(read, *parts, part("stream", b"True"), part("timestamp_granularities[]", b"word"))
    assert (outcome, told["value"], told["stream"]) == ("ok", b"m", True)
    body = form(*parts, part("stream", b"True"), part("timestamp_granularities[]", b"word"))
    assert body[told["first"] : told["last"] - 1] == b"m"


def test_what_clients_send_is_read(read: Reader) -> None:
    fields = {
        "model": "org/m:1",
        "file": ("größe; a.wav", b"\r\n--\r\n" * 40_000, "audio/wav"),
        "stream": "false",
    }
    body, content_type = encode_multipart_formdata(fields)
    outcome, told = read(body, content_type.encode())
    assert (outcome, told["value"], told["stream"]) == ("ok", b"org/m:1", False)
    browser = b'--WebKit1\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--WebKit1--\r\n'
    assert read(browser, b'Multipart/Form-Data; charset=UTF-8; boundary="WebKit1"')[1]["value"] == b"m"


@pytest.mark.parametrize(
    "given",
    [
        "name=model.wav",
        "my name = x.wav",
        "model; a.wav",
        r"she said \"name\".wav",
        r"C:\\sound\\a.wav",
        r"C:\sound\a.wav",
        r"a\\",
    ],
)
def test_a_file_may_be_called_as_clients_write_it(read: Reader, given: str) -> None:
    file = part("file", b"x", f'; filename="{given}"', "Content-Type: audio/wav\r\n")
    outcome, told = ask(read, file, part("model", b"m"))
    assert (outcome, told["value"]) == ("ok", b"m")


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n", b"\n", b" \t\r\n"])
def test_blanks_may_stand_behind_the_end(read: Reader, end: bytes) -> None:
    body = part("model", b"m") + b"--%b--" % MARK + end
    outcome, told = read(body, b"multipart/form-data; boundary=" + MARK)
    assert (outcome, told["value"]) == ("ok", b"m")


def test_fields_may_say_that_they_are_plain(read: Reader) -> None:
    head = 'Content-Type: text/plain; charset="ISO-8859-1"\r\nContent-Transfer-Encoding: 8bit\r\n'
    outcome, told = ask(read, part("_charset_", b"UTF-8"), part("model", b"m", head=head), part("stream", b"true"))
    assert (outcome, told["value"], told["stream"]) == ("ok", b"m", True)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([part("model", b"m"), part("model", b"m")], "twice"),
        ([part("stream", b"true"), part("stream", b"false")], "twice"),
        ([part("model", b"m", '; filename="m"')], "field"),
        ([part("model", b"m"), part("Model", b"n")], "field"),
        ([part("MODEL", b"n")], "field"),
        ([part("Stream", b"true")], "field"),
        ([part("Model[]", b"n")], "field"),
        ([part("model", b"m", head="Content-Type: text/plain; charset=utf-7\r\n")], "field"),
        ([part("model", b"m", head="Content-Type: a/b; charset=utf-8; charset=utf-16\r\n")], "field"),
        ([part("model", b"bQ==", head="Content-Transfer-Encoding: base64\r\n")], "field"),
        ([part("_charset_", b"utf-7")], "field"),
        ([part("model[]", b"n")], "field"),
        ([part("model.a", b"n")], "field"),
        ([part("mo\\del", b"n")], "head"),
        ([part("model ", b"n")], "head"),
        ([part("m\u00f6del", b"n")], "head"),
        ([part("a", b"n", '; name="model"')], "head"),
        ([part("a", b"n", "; name*=UTF-8''model")], "head"),
        ([part("a", b"n", '; filename="x\\"; name=\\"model"')], "head"),
        ([part("a", b"n", '; filename="; Name = model"')], "head"),
        ([part("a", b"n", '; filename="x;name*=model"')], "head"),
        ([part("a", b"n", '; filename="x\\"; b"')], "head"),
        ([part("a", b"n", '; filename="x\\\\"; name="model"')], "head"),
        ([part("a", b"n", '; filename="x\\"; name="model')], "head"),
        ([part("a", b"n", '; filename="x\\"')], "head"),
        ([b'--xYz.1\r\nContent-Disposition: form-data; filename="name=model"; name="a"\r\n\r\n\r\n'], "head"),
        ([b'--xYz.1\r\nContent-Disposition: form-data; filename="\\"model"; name="a"\r\n\r\n\r\n'], "head"),
        ([part("a", b"n", '; other="x"')], "head"),
        ([part("a", b"n", head='Content-Disposition: form-data; name="model"\r\n')], "head"),
        ([part("a", b"n", head=" folded\r\n")], "head"),
        ([part("a", b"n", head="X: a\nContent-Disposition: form-data\r\n")], "head"),
        ([part("a", b"n", head="X: a\rY: b\r\n")], "head"),
        ([part("a", b"n", head="X\0: a\r\n")], "head"),
        ([part("a", b"n", head="X: " + "a" * 9000 + "\r\n")], "form"),
        ([part("a", b"x\n--xYz.1\nContent-Disposition: form-data; name=model\n\nn")], "form"),
        ([part("a", b"x--xYz.1--")], "form"),
        ([part("a", b"x\r\n--xYz.1 \r\n")], "form"),
        ([part("a", b"--xYz.1")], "form"),
        ([b"preamble\r\n", part("a", b"n")], "form"),
        ([b"\r\n", part("a", b"n")], "form"),
        ([part("a", b"n"), b"--xYz.1--\r\nepilogue"], "form"),
        ([part("a", b"n"), b"--xYz.1--\r\n\r\n", part("model", b"n")], "form"),
        ([part("a", b"n"), b"--xYz.1--" + b"\r\n" * 40_000], "form"),
        ([part("a", b"n"), b"--xYz.1-"], "form"),
        ([part("a", b"1")] * 1001, "parts"),
        ([b"--xYz.1\r\n\r\nno head\r\n"], "form"),
    ],
)
def test_what_servers_might_read_otherwise_is_refused(read: Reader, parts: list[bytes], why: str) -> None:
    assert ask(read, *parts) == ("refused", why)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; charset=utf-7",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/form-data; boundary=a, multipart/form-data; boundary=b",
        'multipart/form-data; boundary="a;b"',
        'multipart/form-data; boundary="a\\"b"',
        "multipart/form-data; boundary=" + "a" * 71,
        "multipart/form-data boundary=a",
        "multipart/mixed; boundary=a",
    ],
)
def test_a_boundary_that_may_be_read_otherwise_is_refused(read: Reader, content_type: str) -> None:
    assert read(b"--a--\r\n", content_type.encode()) == ("refused", "boundary")


PIECES = [b"\r\n", b"\n", b"--" + MARK, b"--", MARK, b"model", b'name="model"', b"; ", b"a", b"\r\n\r\n"]
PIECES += [b'Content-Disposition: form-data; name="', b'"', b"\xff", b"", b"stream"]


@settings(max_examples=500)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), whole=st.booleans())
def test_what_passes_is_read_alike_by_others(read: Reader, pieces: list[bytes], whole: bool) -> None:
    middle = b"".join(pieces)
    body = form(part("a", middle), part("model", b"m")) if whole else form(part("model", b"m"), middle)
    outcome, told = read(body, b"multipart/form-data; boundary=" + MARK)
    if outcome == "refused":
        return
    head = b"Content-Type: multipart/form-data; boundary=" + MARK + b"\r\n\r\n"
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    (theirs,) = [p for p in message.iter_parts() if p.get_param("name", header="content-disposition") == "model"]
    assert told["value"] == body[told["first"] : told["last"] - 1] == theirs.get_payload(decode=True)


@pytest.mark.parametrize("filling", [b"a", b"-", b"\r\n--", b"\r\n--xYz.", b"\r", bytes(range(256))])
def test_a_large_file_is_passed_over_quickly(read: Reader, filling: bytes) -> None:
    body = form(part("file", filling * ((25 << 20) // len(filling)), '; filename="a"'), part("model", b"m"))
    began = time.process_time()
    outcome, told = read(body, b"multipart/form-data; boundary=" + MARK)
    took = time.process_time() - began
    assert (outcome, told["value"]) == ("ok", b"m")
    assert took < 1.0, f"{took * 1000:.0f} ms"
