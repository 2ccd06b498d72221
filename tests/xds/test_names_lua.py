"""The model's name as the entrance reads it and the node gets it, in LuaJIT as Envoy runs it, held to Python's json."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from weighbridge_operator.xds.scripts import write_adapting, write_entrance

JSON, GEMINI = b"application/json", b"/v1beta/models/%s:generateContent"
STARTS, ENDS = st.sampled_from(["", r'"a": "\u0062\\", ']), st.sampled_from(["", ', "b": "m"'])
NAME = re.compile(r"[A-Za-z0-9._:/@+-]{1,400}")
#: What Envoy gives a script, as far as these two ask for it.
HANDLE = b"""
function pass(path, content_type, body, route, models, served)
  local status
  local heads = {
    [":method"] = "POST", [":path"] = path, ["content-type"] = content_type,
    ["x-weighbridge-route"] = route,
    ["x-weighbridge-served"] = served and served .. " " .. route,
  }
  local headers = {
    get = function(_, name) return heads[name] end,
    add = function(_, name, value) heads[name] = value end,
    replace = function(_, name, value) heads[name] = value end,
    remove = function(_, name) heads[name] = nil end,
  }
  local bytes = {
    length = function() return #body end,
    getBytes = function(_, first, size) return string.sub(body, first + 1, first + size) end,
    setBytes = function(_, text) body = text end,
  }
  local kept
  local metadata = {
    get = function() return kept end,
    set = function(_, _, key, value) kept = { [key] = value } end,
  }
  envoy_on_request({
    streamInfo = function() return { dynamicMetadata = function() return metadata end } end,
    headers = function() return headers end,
    body = function() return bytes end,
    metadata = function() return { get = function() return models end } end,
    respond = function(_, answer) status = answer[":status"] end,
  })
  return heads["x-weighbridge-route"], body, status
end
"""


def start(script: str) -> Any:
    lua = LuaRuntime(encoding=None)
    lua.execute(script.encode())
    lua.execute(HANDLE)
    return lua.globals()[b"pass"]


@pytest.fixture(scope="module")
def entrance() -> Any:
    return start(write_entrance())


@pytest.fixture(scope="module")
def adapting() -> Any:
    return start(write_adapting())


def name_of(route: bytes) -> str:
    """What the route table looks for."""
    return route.decode().split(" ")[2]


@st.composite
def literals(draw: st.DrawFn) -> str:
    """A string of JSON as somebody might write it, quotes included."""
    plain = st.sampled_from('aZ09._:/@+-u\\"bdf\n ?é𝄞\x00')
    text = draw(st.text(st.sampled_from("amz0u/._-") | plain, min_size=1, max_size=12))
    text *= draw(st.sampled_from([1, 1, 1, 33, 34, 100]))
    ways = draw(st.lists(st.sampled_from(["as it is", "code", "CODE"]), min_size=1, max_size=7))
    written = ""
    for number, c in enumerate(text):
        way = ways[number % len(ways)]
        if c == "/" and way != "as it is":
            written += r"\/" if way == "code" else r"\u002F"
        elif way == "as it is" or ord(c) > 0xFFFF:
            written += json.dumps(c, ensure_ascii=way != "as it is")[1:-1]
        else:
            written += f"\\u{ord(c):04{'x' if way == 'code' else 'X'}}"
    return f'"{written}"'


@settings(max_examples=400)
@given(literal=literals(), before=STARTS, after=ENDS)
@example(literal=r'"llam\u0061"', before="", after="")
@example(literal=r'"org\/m"', before="", after="")
@example(literal=r'"\\u0061"', before="", after="")
@example(literal=r'"\ud834\udd1e"', before="", after="")
@example(literal='"' + r"\u0061" * 400 + '"', before="", after="")
@example(literal='"' + r"\u0061" * 401 + '"', before="", after="")
@example(literal='"' + "a" * 400 + r"\/" + '"', before="", after="")
def test_a_name_is_what_any_reader_of_json_reads_and_the_node_gets_its_own(
    entrance: Any, adapting: Any, literal: str, before: str, after: str
) -> None:
    body = f'{{{before}"model": {literal}{after}}}'.encode()
    name = json.loads(literal)
    route, kept, status = entrance(b"/v1/chat/completions", JSON, body)
    assert (kept, status) == (body, None)
    if NAME.fullmatch(name) is None:
        assert "?" in name_of(route)
        return
    assert name_of(route) == name
    served = f"/v1;{name}=Own/name;".encode()
    _, renamed, _ = adapting(b"/v1/chat/completions", JSON, body, route, name.encode(), served)
    assert renamed == f'{{{before}"model": "Own/name"{after}}}'.encode()


@pytest.mark.parametrize("written", ["m/x", r"m\/x", r"m\u002fx", r"models\/m\/x", r"models/\u006d/x"])
def test_a_body_may_repeat_the_name_of_its_path_in_any_spelling(entrance: Any, adapting: Any, written: str) -> None:
    body = f'{{"model": "{written}", "n": 1}}'.encode()
    path = GEMINI % b"m%2Fx"
    route, _, status = entrance(path, JSON, body)
    assert status is None
    assert name_of(route) == "m/x"
    _, renamed, _ = adapting(path, JSON, body, route, b"m/x", b"/v1beta;m/x=own;")
    told = json.loads(renamed)["model"]
    assert told.removeprefix("models/") == "own"


@pytest.mark.parametrize("written", ["x", r"m\u002f\u002fx", r"\\u006d/x", r"models\\/m/x"])
def test_a_body_that_names_another_model_than_its_path_is_refused(entrance: Any, written: str) -> None:
    assert entrance(GEMINI % b"m%2Fx", JSON, f'{{"model": "{written}"}}'.encode())[2] == b"400"


def test_a_form_and_a_path_know_no_escapes_of_json(entrance: Any) -> None:
    for written in (rb"a\/b", rb"\u0061"):
        form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n--x--\r\n' % written
        route, _, _ = entrance(b"/v1/audio/transcriptions", b"multipart/form-data; boundary=x", form)
        assert "?" in name_of(route)
        route, _, _ = entrance(GEMINI % written.replace(b"/", b"%2F").replace(b"\\", b"%5C"), JSON, b"{}")
        assert "?" in name_of(route)
