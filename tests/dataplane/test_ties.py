"""Where nothing tells the candidates apart: requests that come one by one, to nodes that are empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Counts, Member, Sample
from weighbridge_dataplane.standing import Standing
from weighbridge_dataplane.ties import pick
from weighbridge_simulator.engine import Engine, EngineSpec, Job

PERIOD, WARM = 0.25, 40  # seconds between pages; requests before any counts


class Fleet:
    """Nodes of these sizes that are looked at as a data plane looks, and asked by one chooser."""

    def __init__(self, sizes: Sequence[float], rooms: Sequence[float | None], seed: int = 1) -> None:
        self.names = [f"10.0.0.{number}:80" for number in range(len(sizes))]
        self.engines = [Engine(EngineSpec.unit(size)) for size in sizes]
        self.chooser = Chooser(Random(seed).random)
        self.chooser.tell(
            [Member(name, "pool", name, "vllm", capacity=room) for name, room in zip(self.names, rooms, strict=True)], 1
        )
        self.now = self._looked = 0.0
        self._random = Random(seed)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        while self._looked + PERIOD <= self.now:
            self._looked += PERIOD
            counts = {}
            for name, engine in zip(self.names, self.engines, strict=True):
                engine.advance(self._looked)
                page = sample(engine, self._looked)
                self.chooser.read(name, page, self._looked)
                counts[name] = Counts(int(page.running or 0), 0, True)
            self.chooser.count(counts, self._looked)

    def ask(self, asked: Asked) -> str:
        """The node for it, which then works on it."""
        assert asked.size is not None
        self.pass_by(0.8 + self._random.random())
        member = self.chooser.choose(asked, self.now).member
        assert member is not None
        self.engine(member.address).advance(self.now)
        self.engine(member.address).submit(Job(asked.size // 4, 20), self.now)
        return member.address

    def engine(self, name: str) -> Engine:
        return self.engines[self.names.index(name)]


def sample(engine: Engine, now: float) -> Sample:
    seen = engine.sample(now)
    read = float(seen.prompt_tokens - seen.cached_tokens)
    return Sample(
        now, seen.kv, seen.waiting, seen.running, read, seen.generated_tokens, seen.cached_tokens, seen.ttft_count,
        seen.ended + seen.cancelled,
    )  # fmt: skip


def share(fleet: Fleet, requests: int = 150, session: str | None = None) -> list[float]:
    """The part of them that each node gets, once its speed is known as well as it will be."""
    random = Random(7)
    nodes = [fleet.ask(Asked(random.randint(1200, 6000), session)) for _ in range(WARM + requests)][WARM:]
    counts = Counter(nodes)
    return [counts[name] / requests for name in fleet.names]


def test_alike_nodes_share_what_comes_one_by_one() -> None:
    """None is known to be faster, though by chance one always seems so."""
    for seed in range(3):
        assert max(share(Fleet([1.0, 1.0, 1.0], [None] * 3, seed))) < 0.55


def test_room_decides_where_speed_does_not() -> None:
    large, _, small = share(Fleet([1.0, 1.0, 1.0], [4.0, 2.0, 1.0]))
    assert large > 2 * small


def test_who_is_known_to_read_slowly_is_not_as_good_as_equal() -> None:
    *_, slow = share(Fleet([1.0, 1.0, 0.2], [None] * 3))
    assert slow < 0.2


def test_a_conversation_of_short_turns_stays_where_nothing_speaks_against_it() -> None:
    """Of less than a block nobody gains by it; but nobody expects it to wander either."""
    fleet = Fleet([1.0, 1.0, 1.0], [None] * 3)
    share(fleet, 20)
    for number in range(10):
        turns = {fleet.ask(Asked(400 + 100 * turn, f"talk-{number}")) for turn in range(4)}
        assert len(turns) == 1, number


def test_no_session_keeps_requests_on_a_node_that_has_others() -> None:
    fleet = Fleet([1.0, 1.0, 1.0], [None] * 3)
    share(fleet, 20)
    busy = fleet.ask(Asked(600, "talk"))
    for _ in range(30):
        fleet.engine(busy).submit(Job(100, 2000), fleet.now)
    fleet.pass_by(1.0)
    assert fleet.ask(Asked(700, "talk")) != busy


def test_what_is_felt_is_no_tie_however_little_is_known() -> None:
    """Of a long prompt much may be wrong, and much is worth."""
    nodes = [Standing(Member(name, "pool", name, "vllm")) for name in "ab"]
    for each in nodes:
        each.doubt = 1e-5

    def pick_from(better_by: float) -> set[str]:
        loads = (0.3, 0.3 + better_by)
        judged = [
            (each, (each.member.address, load, 0.1, 0.0, 0.0, False)) for each, load in zip(nodes, loads, strict=True)
        ]
        found = [pick(judged, 8000.0, 1.0, None, Random(seed).random) for seed in range(20)]
        return {each.member.address for each in found if each is not None}

    assert pick_from(0.005) == {"a", "b"}
    assert pick_from(0.02) == {"a"}
