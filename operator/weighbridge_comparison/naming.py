"""A choice for each request, over the weights: the product's own chooser, and what a picker without memory does.

The picker is llm-d's with its defaults: twice the queue, twice the free KV, and three times the part of the prompt's
blocks that it sent there before; the best wins. Its samples are 50 ms old, whatever it sent there since. There is one
for all Envoys. https://github.com/llm-d/llm-d-inference-scheduler
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import isnan
from random import Random

from weighbridge_dataplane.affinity import Affinity
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Beginning, Counts, Heard, Member, Sample, Sent
from weighbridge_dataplane.outbox import Outbox
from weighbridge_simulator.conversations import name_beginning
from weighbridge_simulator.observation import Observation, Report
from weighbridge_simulator.scenario import FleetNode
from weighbridge_simulator.service import BLOCK as KV_BLOCK
from weighbridge_simulator.service import Job

BYTES = 4  # of a token
PICKER_BLOCKS = 31_250  # of 64 bytes, a block of the KV cache, that it remembers of each node
PICKER_DEPTH = 256  # of them, that it looks at of a prompt
HEARD = 2.0  # seconds between two words of the others' requests
UNDER_WAY = 0.005  # seconds, a word of what was sent
NATURAL_AGE = 3.0  # seconds that numbers are old where a fleet says nothing of it


class Precise:
    """One chooser for each gateway. `every`: seconds between two looks; `late`: how old pages are then;
    `told`: whether each hears of the others' requests; `peers`: whether they tell each other what they sent."""

    def __init__(
        self,
        fleet: Sequence[FleetNode],
        gateways: int,
        seed: int,
        every: float = 0.25,
        late: float = 0.0,
        told: bool = True,
        peers: bool = True,
    ) -> None:
        self._fleet, self.every, self._late = fleet, every, late
        self._choosers = [Chooser(Random(f"{seed} choice {number}").random) for number in range(gateways)]
        self._told = told
        self._outboxes = [Outbox(gateways - 1) for _ in range(gateways)] if peers and gateways > 1 else []
        #: When it is heard, who says it, and what.
        self._under_way: list[tuple[float, int, tuple[Sent, ...], tuple[Beginning, ...]]] = []
        self._named_at = 0.0
        for chooser in self._choosers if self._outboxes else ():
            chooser.attend(Heard(gateways - 1, gateways - 1))
        self._members: tuple[int, ...] = ()
        self._pages: deque[Observation] = deque()
        self._heard = 0.0
        self.silent = self.named = 0

    def look(self, now: float, seen: Observation, active: Sequence[Sequence[int]], live: Sequence[int], /) -> None:
        """Reads all pages, Envoy's too."""
        if seen.members != self._members:
            self._members = seen.members
            told = [self._member(i) for i in seen.members]
            for chooser in self._choosers:
                chooser.tell(told, len(self._choosers))
                chooser.share(len(told), 1)
        self._pages.append(seen)
        page = None
        while self._pages and self._pages[0].at <= now - self._late + 1e-9:
            page = self._pages.popleft()
        # Others' requests are told where every gateway's are known, or not at all.
        heard = self._told and now - self._heard >= HEARD and seen.inflight is not None
        for chooser, counts in zip(self._choosers, active, strict=True):
            if page is not None:
                for i in page.members:
                    chooser.read(_address(i), _sample(page.at, page.reports[i]), now)
            chooser.count({_address(i): Counts(counts[i], 0, i in live) for i in seen.members}, now)
            if heard and seen.inflight is not None:
                chooser.hear({_address(i): seen.inflight[i] for i in seen.members}, (), now)
        self._heard = now if heard else self._heard

    def name(self, gateway: int, job: Job, now: float, /) -> int | None:
        """The chooser's node."""
        self._pass_on(now)
        asked = Asked(BYTES * job.prompt, job.session, name_beginning(job), shared=bool(self._outboxes))
        choice = self._choosers[gateway].choose(asked, now)
        if choice.member is None:
            self.silent += 1
            return None
        self.named += 1
        if self._outboxes:
            self._outboxes[gateway].put(choice.member.address, choice.tokens, now, choice.begun)
        return int(choice.member.node)

    def _pass_on(self, now: float) -> None:
        """What was told since the last request, and what was heard."""
        for teller, outbox in enumerate(self._outboxes):
            # Nothing was sent since the last request: it may go out at that moment, or when the word before it lets.
            if (wait := outbox.wait(self._named_at)) is not None and self._named_at + wait <= now:
                out = self._named_at + wait
                self._under_way.append((out + UNDER_WAY, teller, *outbox.take(out)))
        self._named_at = now
        for at, teller, sent, begun in [word for word in self._under_way if word[0] <= now]:
            for chooser in (each for number, each in enumerate(self._choosers) if number != teller):
                for each in sent:
                    chooser.hear_sent(each, at)
                for told in begun:
                    chooser.hear_begun(told)
        self._under_way = [word for word in self._under_way if word[0] > now]

    def _member(self, index: int) -> Member:
        return Member(_address(index), "pool", str(index), "vllm", capacity=self._fleet[index].capacity)


class Picker:
    """One picker for all gateways; of what it sent it knows the prompts' blocks alone."""

    every = 0.05

    def __init__(self, seed: int) -> None:
        self._random = Random(f"{seed} pick")
        self._reports: dict[int, Report] = {}
        self._live: tuple[int, ...] = ()
        self._sent = Affinity(blocks=PICKER_BLOCKS)

    def look(self, now: float, seen: Observation, active: Sequence[Sequence[int]], live: Sequence[int], /) -> None:  # noqa: ARG002
        """Twenty times a second."""
        self._live = tuple(live)
        for i in seen.members:
            report = seen.reports[i]
            if report is not None and not isnan(report.waiting):
                self._reports[i] = report

    def name(self, gateway: int, job: Job, now: float, /) -> int | None:  # noqa: ARG002
        """The best score, ties by chance."""
        known = [i for i in self._live if i in self._reports]
        if not known:
            return None
        queues = [self._reports[i].waiting for i in known]
        most, least = max(queues), min(queues)
        blocks = tuple(f"{name:x}" for name in job.blocks[: job.prompt // KV_BLOCK][:PICKER_DEPTH])
        scores = [
            2 * ((most - queue) / (most - least) if most > least else 1.0)
            + 2 * (1 - min(1.0, self._reports[i].kv))
            + 3 * self._sent.count(_address(i), blocks) / max(1, len(blocks))
            for i, queue in zip(known, queues, strict=True)
        ]
        best = max(scores)
        node = self._random.choice([i for i, score in zip(known, scores, strict=True) if score >= best - 1e-9])
        self._sent.remember(Beginning(_address(node), blocks, None, 0.0))
        return node


def _address(index: int) -> str:
    return f"10.0.0.{index}:8000"


def _sample(at: float, report: Report | None) -> Sample | None:
    if report is None:
        return None
    read = max(0.0, report.prompt_tokens - report.cached_tokens)
    return Sample(
        at,
        report.kv,
        report.waiting,
        report.running,
        read,
        report.generated_tokens,
        report.cached_tokens,
        report.first_tokens,
        report.ended,
        read + report.generated_tokens,
    )
