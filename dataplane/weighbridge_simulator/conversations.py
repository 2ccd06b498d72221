"""Requests that begin alike: conversations whose every turn sends all that was said, under prompts of applications.

What a prompt holds is told as turns, each a text by its name and length. In virtual time they become names of blocks,
over HTTP messages whose bytes begin alike. Randomness is given; the requests do not depend on how they are answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random
from typing import Literal
from zlib import crc32

from weighbridge_simulator.answers import write_words
from weighbridge_simulator.ask import join_messages
from weighbridge_simulator.service import BLOCK, Job
from weighbridge_simulator.workload import Arrival, Sizes, Turn, draw_arrivals

_PACE = 0.025  # seconds a token, as a node under load writes and a person waits
_EARLIER = 4.0  # lengths of a conversation that lie before the start, so that it is not a fresh one for all
_PILOT = 2000  # conversations
_HASHED = (2, 4, 8, *range(16, 16 * 62, 16))  # blocks of the KV cache in what a gateway hashes
_OVERHEAD = 4  # tokens that a message costs beside its text


@dataclass(frozen=True, slots=True)
class Sessions:
    """What conversations are like. Means; of the applications the second has half of the first's users, and so on.

    `share` of the requests belong to conversations; `turns` of one; `think` seconds from an answer to the next turn;
    `system` tokens with which all prompts of an application begin; `groups` applications; one whose prompt would grow
    beyond `most` tokens is over. `named`: what its requests name as their session.
    """

    share: float = 1.0
    turns: float = 5.0
    think: float = 15.0
    system: int = 0
    groups: int = 1
    most: int = 8000
    named: Literal["conversation", "application", "nothing"] = "conversation"


def draw_sessions(rate: float, seconds: float, sizes: Sizes, sessions: Sessions, random: Random) -> list[Arrival]:
    """Poisson starts of conversations and of requests that stand alone, together `rate` a second, in order of time."""
    talking = Random(random.getrandbits(64))
    starts = sessions.share * rate / _count_turns(sizes, sessions)
    mean = sessions.turns * (sessions.think + _PACE * sizes.answer_median)
    at, number, drawn = -_EARLIER * mean, 0, []
    while starts > 0 and (at := at + talking.expovariate(starts)) < seconds:
        number += 1
        drawn += [one for one in _converse(at, number, sizes, sessions, talking) if 0.0 <= one.at < seconds]
    drawn += draw_arrivals(rate * (1.0 - sessions.share), seconds, sizes, random)
    return sorted(drawn, key=lambda arrival: arrival.at)


def _converse(at: float, number: int, sizes: Sizes, sessions: Sessions, random: Random) -> Iterator[Arrival]:
    """The turns of one conversation."""
    said: tuple[Turn, ...] = ()
    name = f"conversation-{number}" if sessions.named == "conversation" else None
    if sessions.system or sessions.named == "application":
        group = 1 + _draw_group(sessions.groups, random)
        said = (Turn("system", group, sessions.system),) if sessions.system else ()
        name = f"application-{group}" if sessions.named == "application" else name
    for turn in range(1000):
        asked, answer = sizes.draw(random)
        asked = max(asked, _OVERHEAD + 4)
        said = (*said, Turn("user", (number << 16) + 2 * turn, asked))
        prompt = sum(one.tokens for one in said)
        if prompt > sessions.most and turn:
            return
        yield Arrival(at, prompt, answer, turns=said, session=name)
        said = (*said, Turn("assistant", (number << 16) + 2 * turn + 1, answer))
        if random.random() * sessions.turns >= sessions.turns - 1.0:
            return
        at += _PACE * answer + random.expovariate(1.0 / sessions.think)


def _draw_group(groups: int, random: Random) -> int:
    parts = list(accumulate(1.0 / (group + 1) for group in range(groups)))
    drawn = random.random() * parts[-1]
    return next(group for group, edge in enumerate(parts) if drawn < edge)


@cache
def _count_turns(sizes: Sizes, sessions: Sessions) -> float:
    """How many turns a conversation has on average, those that grow too long among them."""
    random = Random("turns")
    return sum(1 for number in range(_PILOT) for _ in _converse(0.0, number, sizes, sessions, random)) / _PILOT


def name_turns(arrival: Arrival) -> tuple[int, ...]:
    """Names of whole blocks of prompt and answer, each by all that stands up to its end."""
    if not arrival.turns:
        return ()
    names: list[int] = []
    before, at = 0, 0
    for turn in (*arrival.turns, Turn("assistant", arrival.turns[-1].name + 1, arrival.answer)):
        end = at + turn.tokens
        first = (len(names) + 1) * BLOCK
        names += [hash((before, turn.name, upto - at)) for upto in range(first, end + 1, BLOCK)]
        before, at = hash((before, turn.name, turn.tokens)), end
    return tuple(names)


def name_beginning(job: Job) -> tuple[str, ...]:
    """The prompt's beginning as a gateway sees it that hashes bodies up to 128, 256, 512 bytes and each kilobyte."""
    whole = job.blocks[: job.prompt // BLOCK]
    return tuple(f"{whole[end - 1] & 0xFFFFFFFF:08x}" for end in _HASHED if end <= len(whole))


def write_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as a client sends them, four characters a token; what the node said is what it says."""
    messages: list[dict[str, str]] = []
    lines: list[str] = []
    for turn in turns:
        if turn.role == "assistant":
            text = write_words(crc32(join_messages(lines).encode()), 0, turn.tokens)
        else:
            text = f"{turn.name} " + write_words(turn.name, 0, turn.tokens)
        # The line's break, its role and the two characters behind that count as well.
        text = text[: max(1, 4 * (turn.tokens - _OVERHEAD) - len(turn.role) - 3)]
        messages.append({"role": turn.role, "content": text})
        lines.append(f"{turn.role}: {text}")
    return messages
