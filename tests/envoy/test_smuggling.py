"""Promise F10: no header, no odd framing and no slow client makes a request another's, or another model's or node's."""

from __future__ import annotations

import asyncio

import pytest

from support.probes import (
    BODY,
    FRAMING,
    H2,
    OTHER,
    OWN_NAME,
    PLAIN,
    PSEUDO,
    RENAMED,
    SIZE,
    SPOOFS,
    TARGETS,
    TRAILER,
    USUAL,
    crawl,
    find_misled,
    gateway,
    list_ours,
    list_probes,
)
from support.rawhttp import exchange, write_h2, write_request
from support.stack import Stack, node, policy, secret
from support.witness import Witness, status

pytestmark = pytest.mark.envoy


async def test_odd_framing_smuggles_nothing() -> None:
    async with gateway() as (stack, good, other):
        assert b" 200 " in (await exchange(stack.port, write_request((*USUAL, SIZE), BODY)))[:20]
        assert len(good.heard) == 1
        told = await asyncio.gather(*(exchange(stack.port, sent) for sent in FRAMING.values()))
        for name, answer in zip(FRAMING, told, strict=True):
            assert answer[9:12] < b"500", (name, answer[:300])
            assert b"X-Smuggled" not in answer, name
        assert find_misled(good.heard, other.heard) == []


async def test_an_encoding_that_nobody_reads_is_the_caller_s_fault() -> None:
    async with gateway() as (stack, good, other):
        for coding in (b"gzip, chunked", b"chunked, chunked", b"deflate", b"trailers", b"chunked;q=1", b"chunked,"):
            sent = write_request((*USUAL, b"Transfer-Encoding: " + coding), b"5\r\nhello\r\n0\r\n\r\n")
            answer = await exchange(stack.port, sent)
            assert answer[9:12] == b"400", (coding, answer[:300])
            assert b'"code":"invalid_http"' in answer, (coding, answer)
        assert good.heard == other.heard == []


async def test_a_request_without_a_path_is_refused_and_no_script_fails() -> None:
    async with Witness(status(200)) as good, Stack(node("a", good.port)) as stack:  # a key would be asked for before
        answer = await exchange(stack.port, b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer[9:12] == b"404", answer[:300]
        assert all("script log" not in envoy.log for envoy in stack.envoys)
        assert good.heard == []


async def test_no_target_and_no_header_leads_elsewhere() -> None:
    async with gateway() as (stack, good, other):
        sent = [write_request((*USUAL, b"Connection: close", SIZE), BODY, target) for target in TARGETS]
        sent += [write_request((*USUAL, spoof, SIZE), BODY) for spoof in SPOOFS]
        for answer in await asyncio.gather(*(exchange(stack.port, each) for each in (*sent, TRAILER))):
            assert answer[9:12] < b"500", answer[:200]
        assert find_misled(good.heard, other.heard) == []


async def test_another_s_key_is_needed_to_be_another() -> None:
    async with gateway() as (stack, good, other):
        for lines in (
            (b"x-weighbridge-client: alice",),
            (b"Authorization: Bearer sk-wrong", b"x-api-key: sk-alice"),
            (b"Authorization: Bearer sk-wrong", b"Authorization: Bearer sk-alice"),
            (b"Authorization: Bearer sk-alic", b"Cookie: key=sk-alice"),
            (b"Authorization : Bearer sk-alice",),
            (b"Authorization: Bearer sk-alice\x00",),
        ):
            answer = await exchange(stack.port, write_request((USUAL[0], *lines, SIZE), BODY))
            assert answer[9:12] in (b"400", b"401"), (lines, answer[:200])
        assert good.heard == other.heard == []


async def test_http2_oddities_change_nothing() -> None:
    async with gateway() as (stack, good, other):
        await exchange(stack.port, write_h2((*PSEUDO, *PLAIN), BODY))
        assert [heard.body for heard in good.heard] == [BODY]
        await asyncio.gather(*(exchange(stack.port, sent) for sent in H2.values()))
        assert find_misled(good.heard, other.heard) == []


async def test_slow_clients_reach_no_node_and_keep_nobody_waiting() -> None:
    async with gateway() as (stack, good, other):
        seconds = await crawl(stack)
        assert max(seconds) < 2.0
        assert len(good.heard) == len(seconds)
        assert find_misled(good.heard, other.heard) == []


async def test_what_is_misled_is_found() -> None:
    async with gateway() as (stack, good, other):
        await exchange(stack.port, write_request((*USUAL, b"Content-Length: %d" % len(OTHER)), OTHER))
        await exchange(stack.port, write_request((*USUAL, b"X-Smuggled: 1", SIZE), BODY))
        assert len(find_misled(good.heard, other.heard)) == 2


async def test_a_node_with_a_name_of_its_own_for_the_model_is_told_nothing_more() -> None:
    async with gateway(OWN_NAME) as (stack, good, other):
        await asyncio.gather(*(exchange(stack.port, sent) for sent in list_probes().values()))
        assert good.heard
        assert find_misled(good.heard, other.heard, RENAMED) == []


@pytest.mark.parametrize("chained", [False, True])
async def test_nor_is_the_next_node_when_one_has_failed(chained: bool) -> None:
    keyed = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
    sent = write_request((USUAL[0], b"Connection: close", SIZE), BODY)
    async with Witness(status(503)) as bad, Witness(status(200)) as good:
        nodes = [
            node("a", bad.port, models=[{"name": "m", "servedAs": "a-longer/name"}], **keyed),
            node("b", good.port, models=[{"name": "m", "servedAs": OWN_NAME}], **keyed),
        ]
        more = [node("c", 9, "small"), policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}])]
        async with Stack(*nodes, *(more if chained else []), secret("provider", apiKey="sk-1")) as stack:
            for _ in range(100):
                assert (await exchange(stack.port, sent)).startswith(b"HTTP/1.1 200")
                if bad.heard:
                    break
        assert {heard.body for heard in bad.heard} == {BODY.replace(b'"m"', b'"a-longer/name"')}
        assert {heard.body for heard in good.heard} == {RENAMED}
        for heard in (*bad.heard, *good.heard):
            assert (list_ours(heard), heard.header("authorization")) == (set(), ["Bearer sk-1"])
