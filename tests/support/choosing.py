"""A chooser of nodes with a clock, for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Choice, Counts, Member, Sample

CHAT = Asked(2000)


def member(name: str, capacity: float | None = None) -> Member:
    return Member(f"{name}:80", "pool", f"default/{name}", "vllm", (), capacity)


class Scene:
    """A chooser over nodes named by letters, and a clock that goes on by quarters of a second."""

    def __init__(self, names: str = "abc", envoys: int = 1, **capacities: float) -> None:
        self.chooser = Chooser(Random(1).random)
        self.now = 100.0
        self.names = names
        self.prompts = dict.fromkeys(names, 0.0)
        self.chooser.tell([member(name, capacities.get(name)) for name in names], envoys)

    def step(
        self,
        samples: Mapping[str, Mapping[str, Any] | None],
        counts: Mapping[str, Counts] | None = None,
        times: int = 1,
    ) -> None:
        """Reads pages and counts; a node that is not named says that it is idle, and is."""
        for _ in range(times):
            self.now += 0.25
            for name in self.names:
                told = samples.get(name, {})
                self.prompts[name] += 2000
                usual = {"kv": 0.1, "waiting": 0, "running": 1, "prompt_tokens": self.prompts[name]}
                sample = None if told is None else Sample(self.now, **{**usual, **told})
                self.chooser.read(f"{name}:80", sample, self.now)
            given = counts or {}
            known = {f"{n}:80": given.get(n, Counts(0, 0, True)) for n in self.names}
            self.chooser.count(known, self.now)

    def choose(self, asked: Asked = CHAT) -> Choice:
        return self.chooser.choose(asked, self.now)

    def name(self, times: int = 1, asked: Asked = CHAT) -> Counter[str]:
        """Whom it names, of so many requests at this moment; "" where it is silent."""
        found = (self.choose(asked).member for _ in range(times))
        return Counter(one.address[0] if one else "" for one in found)
