"""Names become addresses that stay put, and a failing look-up takes nothing away."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from weighbridge_operator.latest import Latest
from weighbridge_operator.sources.addresses import Addresses, Resolved, choose, look_up, parse_literal


@pytest.mark.parametrize(
    ("present", "answers", "chosen"),
    [
        (None, ["10.0.0.9", "10.0.0.10"], "10.0.0.9"),
        ("10.0.0.10", ["10.0.0.9", "10.0.0.10"], "10.0.0.10"),
        ("10.0.0.11", ["10.0.0.9", "10.0.0.10"], "10.0.0.9"),
        (None, ["::1", "10.0.0.9"], "10.0.0.9"),
        (None, ["fd00::2", "fd00::1"], "fd00::1"),
        ("fd00::2", ["fd00::2", "10.0.0.9"], "fd00::2"),
        (None, ["fe80::1%eth0"], None),
        ("10.0.0.9", [], None),
        (None, ["nonsense"], None),
    ],
)
def test_the_choice_is_sticky_then_ipv4_then_smallest(present: str | None, answers: list[str], chosen: str) -> None:
    assert choose(present, answers) == chosen


@pytest.mark.parametrize(
    ("host", "literal"),
    [("10.0.0.1", "10.0.0.1"), ("[fd00::1]", "fd00::1"), ("FD00:0::1", "fd00::1"), ("qwen", None), ("10.0.0", None)],
)
def test_literals_are_told_from_names(host: str, literal: str | None) -> None:
    assert parse_literal(host) == literal


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what changes is changed by threads
            await asyncio.sleep(0.001)


class Directory:
    """Answers look-ups as it is told; `asked` counts them."""

    def __init__(self, **answers: list[str] | OSError) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str) -> Iterable[str]:
        self.asked.append(host)
        answer = self.answers.get(host, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(answer, OSError):
            raise answer
        return answer


@asynccontextmanager
async def running(
    directory: Directory, *hosts: str, period: float = 0.01, patience: float = 3.0
) -> AsyncIterator[tuple[Latest[frozenset[str]], Latest[Resolved]]]:
    wanted: Latest[frozenset[str]] = Latest()
    resolved: Latest[Resolved] = Latest()
    wanted.set(frozenset(hosts))
    task = asyncio.create_task(Addresses(wanted, resolved, look_up=directory, period=period, patience=patience).run())
    try:
        yield wanted, resolved
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_literals_pass_without_a_look_up_and_names_get_their_address() -> None:
    directory = Directory(qwen=["10.0.0.2", "10.0.0.1"])
    async with running(directory, "qwen", "10.9.9.9", "[fd00::1]", period=60) as (_, resolved):
        news, _ = await resolved.wait_newer()
    assert news == Resolved({"10.9.9.9": "10.9.9.9", "[fd00::1]": "fd00::1", "qwen": "10.0.0.1"}, {})
    assert directory.asked == ["qwen"]


async def test_no_hosts_is_an_answer_too() -> None:
    async with running(Directory()) as (_, resolved):
        assert await asyncio.wait_for(resolved.wait_newer(), 5) == (Resolved(), 1)


async def test_an_address_is_kept_while_it_is_answered_and_left_when_it_is_not() -> None:
    directory = Directory(qwen=["10.0.0.5"])
    async with running(directory, "qwen") as (_, resolved):
        _, version = await resolved.wait_newer()
        directory.answers["qwen"] = ["10.0.0.1", "10.0.0.5"]
        asked = len(directory.asked)
        await until(lambda: len(directory.asked) >= asked + 3)
        assert resolved.version == version
        directory.answers["qwen"] = ["10.0.0.7", "10.0.0.1"]
        news, _ = await asyncio.wait_for(resolved.wait_newer(version), 5)
    assert news.addresses == {"qwen": "10.0.0.1"}


async def test_a_failing_look_up_keeps_the_last_answer_and_says_so_until_it_works_again() -> None:
    directory = Directory(qwen=["10.0.0.5"])
    async with running(directory, "qwen", "nobody") as (_, resolved):
        first, version = await resolved.wait_newer()
        assert first.findings == {"nobody": "nobody cannot be resolved (Name or service not known)"}
        directory.answers["qwen"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        held, version = await asyncio.wait_for(resolved.wait_newer(version), 5)
        assert held.addresses == {"qwen": "10.0.0.5"}
        assert held.findings["qwen"] == (
            "qwen cannot be resolved (Temporary failure in name resolution); its last address 10.0.0.5 is kept"
        )
        directory.answers["qwen"] = ["10.0.0.6"]
        healed, _ = await asyncio.wait_for(resolved.wait_newer(version), 5)
    assert (healed.addresses, "qwen" in healed.findings) == ({"qwen": "10.0.0.6"}, False)


async def test_a_new_name_is_looked_up_at_once_and_a_removed_one_forgotten() -> None:
    directory = Directory(a=["10.0.0.1"], b=["10.0.0.2"])
    async with running(directory, "a", period=60) as (wanted, resolved):
        _, version = await resolved.wait_newer()
        wanted.set(frozenset({"b"}))
        news, _ = await asyncio.wait_for(resolved.wait_newer(version), 5)
    assert news.addresses == {"b": "10.0.0.2"}


async def test_a_look_up_that_hangs_holds_nobody_up_and_is_not_repeated() -> None:
    released = threading.Event()

    class Slow(Directory):
        def __call__(self, host: str) -> Iterable[str]:
            answer = super().__call__(host)
            if host == "slow":
                released.wait(10)
            return answer

    directory = Slow(slow=["10.0.0.1"], quick=["10.0.0.2"])
    try:
        async with running(directory, "slow", "quick", patience=0.25) as (_, resolved):
            news, version = await asyncio.wait_for(resolved.wait_newer(), 5)
            assert news == Resolved({"quick": "10.0.0.2"}, {})
            news, version = await asyncio.wait_for(resolved.wait_newer(version), 5)
            assert news.findings == {"slow": "the look-up of slow did not end within 0.25 s"}
            await until(lambda: directory.asked.count("quick") >= 3)
            assert directory.asked.count("slow") == 1
            released.set()
            healed, _ = await asyncio.wait_for(resolved.wait_newer(version), 5)
            assert healed == Resolved({"quick": "10.0.0.2", "slow": "10.0.0.1"}, {})
    finally:
        released.set()


async def test_a_name_that_is_none_is_a_finding() -> None:
    wanted: Latest[frozenset[str]] = Latest()
    resolved: Latest[Resolved] = Latest()
    wanted.set(frozenset({"a" * 70 + ".example", "localhost"}))
    task = asyncio.create_task(Addresses(wanted, resolved).run())
    news, _ = await asyncio.wait_for(resolved.wait_newer(), 5)
    task.cancel()
    assert news.addresses == {"localhost": "127.0.0.1"}
    assert "cannot be resolved" in news.findings["a" * 70 + ".example"]


def test_the_systems_look_up_answers_addresses() -> None:
    assert "127.0.0.1" in set(look_up("localhost"))
