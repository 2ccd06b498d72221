"""Requests that want to be another's, or to reach another model or node: spoofed headers, odd targets, odd framing.

A node that keeps every byte stands behind each of two models; the second is what the probes want to reach. What a probe
hides carries x-smuggled, which must never arrive.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp

from support.rawhttp import write_h2, write_request
from support.stack import Stack, node, secret
from support.witness import Heard, Witness
from weighbridge_operator.xds.names import HOPS_HEADER

PATH = "/v1/chat/completions"
KEY = "sk-alice"
BODY = json.dumps({"model": "m", "messages": []}).encode()
OTHER = json.dumps({"model": "other", "messages": []}).encode()
OWN_NAME = "Own/m"  # what a node may call the model
RENAMED = json.dumps({"model": OWN_NAME, "messages": []}).encode()
SIZE = b"Content-Length: %d" % len(BODY)
USUAL = (b"Content-Type: application/json", b"Authorization: Bearer sk-alice")
HIDDEN = write_request((*USUAL, b"X-Smuggled: 1", b"Content-Length: %d" % len(OTHER)), OTHER)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@asynccontextmanager
async def gateway(served: str = "m") -> AsyncIterator[tuple[Stack, Witness, Witness]]:
    """With the nodes of both models, of which the first calls its own as `served` says."""
    async with Witness() as good, Witness() as other:
        objects = [
            node("a", good.port, models=[{"name": "m", "servedAs": served}]),
            node("b", other.port, "other"),
            secret("callers", alice=KEY, bob="sk-bob"),
        ]
        async with Stack(*objects, keys="callers") as stack:
            yield stack, good, other


FRAMING: dict[str, bytes] = {
    "CL.TE": write_request((*USUAL, SIZE, b"Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN),
    "TE.CL": write_request((*USUAL, b"Transfer-Encoding: chunked", b"Content-Length: 4"), CHUNKED + HIDDEN),
    "CL twice": write_request((*USUAL, SIZE, b"Content-Length: 0"), BODY + HIDDEN),
    "CL list": write_request((*USUAL, SIZE + b", 0"), BODY + HIDDEN),
    "CL signed": write_request((*USUAL, b"Content-Length: +%d" % len(BODY)), BODY + HIDDEN),
    "CL hex": write_request((*USUAL, b"Content-Length: 0x10"), BODY + HIDDEN),
    "CL huge": write_request((*USUAL, b"Content-Length: 99999999999999999999999"), BODY + HIDDEN),
    "CL negative": write_request((*USUAL, b"Content-Length: -1"), BODY + HIDDEN),
    "CL spaced": write_request((*USUAL, b"Content-Length : %d" % len(BODY)), BODY + HIDDEN),
    "TE odd": write_request((*USUAL, b"Transfer-Encoding: xchunked"), CHUNKED + HIDDEN),
    "TE tab": write_request((*USUAL, b"Transfer-Encoding:\x0bchunked", SIZE), BODY + HIDDEN),
    "TE twice": write_request(
        (*USUAL, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), CHUNKED + HIDDEN
    ),
    "TE identity": write_request((*USUAL, b"Transfer-Encoding: identity", SIZE), BODY + HIDDEN),
    "chunk size odd": write_request((*USUAL, b"Transfer-Encoding: chunked"), b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk size huge": write_request((*USUAL, b"Transfer-Encoding: chunked"), b"fffffffffffffffff\r\n" + HIDDEN),
    "chunk unended": write_request((*USUAL, b"Transfer-Encoding: chunked"), b"1\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "obs-fold": write_request((*USUAL, b"X-A: b\r\n Content-Length: 0\r\n x-smuggled: 1", SIZE), BODY),
    "bare LF": write_request((*USUAL, SIZE), BODY).replace(b"\r\n", b"\n"),
    # Envoy takes a bare LF for an end of line: what stands behind it is one more header of the same caller's.
    "bare LF inside": write_request((*USUAL, b"X-A: b\nX-Weighbridge-Route: text whole other 0 0", SIZE), BODY),
    "bare CR inside": write_request((*USUAL, b"X-A: b\rX-Smuggled: 1", SIZE), BODY),
    "NUL inside": write_request((*USUAL, b"X-A: b\x00X-Smuggled: 1", SIZE), BODY),
    "no colon": write_request((*USUAL, b"X-Smuggled 1", SIZE), BODY),
    "two hosts": write_request((*USUAL, b"Host: other", SIZE), BODY),
    "upgrade": write_request((*USUAL, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", SIZE), BODY),
    "space in target": write_request((*USUAL, SIZE), BODY, b"/v1/chat/completions HTTP/1.1 X-Smuggled: 1"),
    "HTTP/1.0": write_request((*USUAL, b"Transfer-Encoding: chunked"), CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/0.9": b"POST /v1/chat/completions\r\n\r\n" + BODY,
    "two lines": b"POST /v1/chat/completions HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n" + BODY,
}
TARGETS = (
    b"/v1/./chat/completions",
    b"/v1/x/../chat/completions",
    b"//v1//chat//completions",
    b"/v1/%2e/chat/completions",
    b"/v1%2fchat/completions",
    b"/v1/chat/completions;x=y",
    b"/v1/chat/completions%00",
    b"/v1/chat/completions#/v1/embeddings",
    b"http://other/v1/chat/completions",
    b"/V1/CHAT/COMPLETIONS",
    b"/v1/chat/completions?x-weighbridge-route=text%20whole%20other%20",
    b"*",
    b"/v1beta/models/m:generateContent/../../../../v1/chat/completions",
)
SPOOFS = (
    b"x-weighbridge-route: text whole other 0 0",
    b"X-Weighbridge-Route: text whole other 0 0\r\nX-Weighbridge-Route: text whole other 0 0",
    b"x-weighbridge-client: bob",
    b"x-weighbridge-credential: credential/default/a/b",
    b"x-weighbridge-served: /evil;m=evil;",
    b"Connection: x-weighbridge-route, authorization, content-length",
    b"Connection: close, x-weighbridge-route",
    b"x-envoy-original-path: /v1/embeddings",
    b"x-envoy-upstream-alt-stat-name: other",
    b"x-original-url: /v1/embeddings\r\nx-rewrite-url: /v1/embeddings\r\nx-http-method-override: GET",
    b"x-forwarded-host: other\r\nforwarded: host=other",
    b"TE: trailers\r\nTrailer: x-weighbridge-route",
)
PSEUDO = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"gateway"),
    (b":path", b"/v1/chat/completions"),
)
PLAIN = ((b"content-type", b"application/json"), (b"authorization", b"Bearer sk-alice"))
H2: dict[str, bytes] = {
    "path twice": write_h2((*PSEUDO, (b":path", b"/v1/embeddings"), *PLAIN), BODY),
    "method twice": write_h2((*PSEUDO, (b":method", b"GET"), *PLAIN), BODY),
    "late pseudo": write_h2((*PSEUDO[:3], *PLAIN, PSEUDO[3]), BODY),
    "unknown pseudo": write_h2((*PSEUDO, (b":x-weighbridge-route", b"text whole other 0 0"), *PLAIN), BODY),
    "upper case": write_h2((*PSEUDO, *PLAIN, (b"X-Smuggled", b"1")), BODY),
    "line in value": write_h2((*PSEUDO, *PLAIN, (b"a", b"b\r\nx-smuggled: 1")), BODY),
    "line in name": write_h2((*PSEUDO, *PLAIN, (b"a: b\r\nx-smuggled", b"1")), BODY),
    "line in path": write_h2(
        (*PSEUDO[:3], (b":path", b"/v1/chat/completions HTTP/1.1\r\nx-smuggled: 1"), *PLAIN), BODY
    ),
    "line in method": write_h2(((b":method", b"POST /x HTTP/1.1\r\nx-smuggled: 1"), *PSEUDO[1:], *PLAIN), BODY),
    "line in authority": write_h2((*PSEUDO[:2], (b":authority", b"a\r\nx-smuggled: 1"), PSEUDO[3], *PLAIN), BODY),
    "transfer-encoding": write_h2((*PSEUDO, *PLAIN, (b"transfer-encoding", b"chunked")), CHUNKED + HIDDEN),
    "connection": write_h2((*PSEUDO, *PLAIN, (b"connection", b"x-weighbridge-route")), BODY),
    "short length": write_h2((*PSEUDO, *PLAIN, (b"content-length", b"4")), BODY, HIDDEN),
    "long length": write_h2((*PSEUDO, *PLAIN, (b"content-length", b"9999")), BODY),
    "lengths": write_h2((*PSEUDO, *PLAIN, (b"content-length", b"4"), (b"content-length", b"%d" % len(BODY))), BODY),
    "host beside": write_h2((*PSEUDO, *PLAIN, (b"host", b"other")), BODY),
    "no path": write_h2((*PSEUDO[:3], *PLAIN), BODY),
    "empty path": write_h2((*PSEUDO[:3], (b":path", b""), *PLAIN), BODY),
    "spoofed": write_h2((*PSEUDO, *PLAIN, (b"x-weighbridge-route", b"text whole other 0 0")), BODY),
    "underscore": write_h2((*PSEUDO, *PLAIN, (b"x_weighbridge_route", b"text whole other 0 0")), BODY),
    "protocol": write_h2((*PSEUDO, (b":protocol", b"websocket"), *PLAIN), BODY),
}
TRAILER = write_request(
    (*USUAL, b"Transfer-Encoding: chunked"),
    CHUNKED[:-2] + b"x-weighbridge-route: text whole other 0 0\r\nx-smuggled: 1\r\n\r\n",
)
SLOW, PROMPT = 200, 20  # clients that never end their request, and others beside them


def list_probes() -> dict[str, bytes]:
    """All of them, as bytes for a connection each, by name."""
    targets = {f"target {each!r}": write_request((*USUAL, b"Connection: close", SIZE), BODY, each) for each in TARGETS}
    spoofs = {f"header {each!r}": write_request((*USUAL, each, SIZE), BODY) for each in SPOOFS}
    return FRAMING | targets | spoofs | {"trailer": TRAILER} | {f"HTTP/2 {name}": sent for name, sent in H2.items()}


def find_misled(good: Iterable[Heard], other: Iterable[Heard], body: bytes = BODY) -> list[Heard]:
    """Requests that arrived otherwise than as their caller's own chat at its own model's node."""
    return [*other, *(heard for heard in good if not _is_own(heard, body))]


def list_ours(heard: Heard) -> set[str]:
    """The gateway's own headers that reached a node, but for the one that is meant to."""
    return {name for name, _ in heard.headers if name.startswith("x-weighbridge")} - {HOPS_HEADER}


def _is_own(heard: Heard, body: bytes) -> bool:
    whole = (heard.method, heard.path.partition("?")[0], heard.body) == ("POST", PATH, body)
    kept = list_ours(heard) or heard.header("x-smuggled") or heard.header("authorization")
    return whole and bool(heard.header(HOPS_HEADER)) and not kept


async def crawl(stack: Stack) -> list[float]:
    """Seconds of each prompt client's request beside the slow ones. Raises where one is not answered with 200."""
    whole, held, seconds = write_request((*USUAL, SIZE), BODY), list[asyncio.StreamWriter](), list[float]()
    try:
        for number in range(SLOW):
            _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
            held.append(writer)
            writer.write(whole[: number % (len(whole) - 1) + 1])
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        async with aiohttp.ClientSession(raise_for_status=True) as http:
            for _ in range(PROMPT):
                began = time.monotonic()
                async with http.post(stack.url + PATH, data=BODY, headers=headers) as answer:
                    await answer.read()
                seconds.append(time.monotonic() - began)
        return seconds
    finally:
        for writer in held:
            writer.close()
