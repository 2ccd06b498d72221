"""What is known of the nodes of every cluster, and a chooser for each set of clusters that a route names.

Three pages feed it, each at its own time: Envoy's runtime says which nodes there are and what others have in flight
there, Envoy's statistics what it has there itself, nodes' own pages the rest. What does not come keeps its last form,
and the choosers judge how old that is. An address that is in several clusters is one node: its requests are added up,
and it is healthy where each of them says so. No clock but the caller's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Choice, Counts, Heard, Member, Sample, Sent, Told
from weighbridge_dataplane.readings import Others, Texts, read_others, read_pool, spell

CHOOSERS_MAXIMUM = 1_024
Clusters = tuple[str, ...]


class Pools:
    """`build` makes a chooser, given what others know its pool as."""

    def __init__(self, build: Callable[[int], Chooser]) -> None:
        self._build = build
        self._texts = Texts({}, {})
        self._pools: dict[str, tuple[Member, ...]] = {}
        self._others: dict[str, Others] = {}
        self._heard: float | None = None
        self._counts: dict[str, Counts] = {}
        self._counted: float | None = None
        self._choosers: OrderedDict[Clusters, Chooser] = OrderedDict()
        self._holders: dict[str, list[Chooser]] = {}
        self._known_as: dict[int, Chooser] = {}
        self._attended = Heard()
        #: Every node once, and the last sample of each.
        self.members: dict[str, Member] = {}
        self.samples: dict[str, Sample] = {}

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(self._pools)

    def tell(self, texts: Texts, now: float) -> None:
        """Takes what the operator tells now, all of it; only what differs from before is read."""
        before, self._texts = self._texts, texts
        if texts.pools != before.pools:
            known = self._pools
            self._pools = {
                name: known[name] if before.pools.get(name) == text else read_pool(name, text)
                for name, text in texts.pools.items()
            }
            self.members = {member.address: member for pool in self._pools.values() for member in pool}
            self.samples = {address: each for address, each in self.samples.items() if address in self.members}
            for clusters in [each for each in self._choosers if not any(name in self._pools for name in each)]:
                del self._choosers[clusters]
            for clusters, chooser in self._choosers.items():
                self._introduce(clusters, chooser)
            self._share()
            self._index()
        if texts.others != before.others:
            self._hear(texts.others, now)

    def _hear(self, texts: Mapping[str, str], now: float) -> None:
        told = {name: read_others(text) for name, text in texts.items()}
        before = {clusters: self._count_envoys(clusters) for clusters in self._choosers}
        self._others = {name: others for name, others in told.items() if others is not None}
        self._heard = now
        for clusters, chooser in self._choosers.items():
            if self._count_envoys(clusters) != before[clusters]:
                self._introduce(clusters, chooser)
            self._repeat(chooser, now)

    def _count_envoys(self, clusters: Clusters) -> int:
        return max((self._others[name].envoys for name in clusters if name in self._others), default=1)

    def count(self, counts: Mapping[str, Mapping[str, Counts]], now: float) -> None:
        """Takes Envoy's own counts, by cluster as its statistics spell it."""
        merged: dict[str, Counts] = {}
        for cluster in self._pools:
            for address, one in counts.get(spell(cluster), {}).items():
                merged[address] = _add(merged[address], one) if address in merged else one
        self._counts, self._counted = merged, now
        for chooser in self._choosers.values():
            chooser.count(merged, now)

    def read(self, address: str, sample: Sample | None, now: float) -> None:
        """Takes what a node's pages said; None: they said nothing, and the sample before serves until it is too old."""
        if sample is not None and address in self.members:
            self.samples[address] = sample
        for chooser in self._holders.get(address, ()):
            chooser.read(address, sample, now)

    def attend(self, heard: Heard) -> None:
        """Who tells us now what is sent."""
        if heard != self._attended:
            self._attended = heard
            for chooser in self._choosers.values():
                chooser.attend(heard)

    def hear(self, told: Iterable[Told], now: float) -> None:
        """Takes what another data plane sent of late; nodes and pools that are not known here are passed over."""
        for each in told:
            if isinstance(each, Sent):
                for chooser in self._holders.get(each.address, ()):
                    chooser.hear_sent(each, now)
            elif (one := self._known_as.get(each.pool)) is not None:
                one.hear_begun(each)

    def choose(self, clusters: Clusters, asked: Asked, now: float) -> Choice:
        """The node for a request, among those of the clusters."""
        chooser = self._choosers.get(clusters)
        if chooser is None:
            if not any(name in self._pools for name in clusters):
                return Choice(None, "unknown")
            chooser = self._open(clusters, now)
        elif len(self._choosers) > 1:
            self._choosers.move_to_end(clusters)
        return chooser.choose(asked, now)

    def _open(self, clusters: Clusters, now: float) -> Chooser:
        chooser = self._choosers[clusters] = self._build(name_pool(clusters))
        chooser.attend(self._attended)
        if len(self._choosers) > CHOOSERS_MAXIMUM:
            self._choosers.popitem(last=False)
        self._introduce(clusters, chooser)
        self._share()
        if self._counted is not None:
            chooser.count(self._counts, self._counted)
        self._repeat(chooser, now)
        self._index()
        for address, holders in self._holders.items():
            if chooser in holders and address in self.samples:
                chooser.read(address, self.samples[address], now)
        return chooser

    def _share(self) -> None:
        nodes = sum(chooser.size for chooser in self._choosers.values())
        for chooser in self._choosers.values():
            chooser.share(nodes, len(self._choosers))

    def _introduce(self, clusters: Clusters, chooser: Chooser) -> None:
        pools = [self._pools[name] for name in clusters if name in self._pools]
        members = {member.address: member for pool in pools for member in pool}
        chooser.tell(tuple(members.values()), self._count_envoys(clusters))

    def _repeat(self, chooser: Chooser, now: float) -> None:
        """Tells a chooser what others have in flight, as it was heard last."""
        if self._heard is None:
            return
        active: dict[str, int] = {}
        for others in self._others.values():
            for address, count in others.active.items():
                active[address] = active.get(address, 0) + count
        suspect = frozenset[str]().union(*(others.suspect for others in self._others.values()))
        chooser.hear(active, suspect, min(now, self._heard))

    def _index(self) -> None:
        self._known_as = {name_pool(clusters): chooser for clusters, chooser in self._choosers.items()}
        self._holders = {}
        for clusters, chooser in self._choosers.items():
            for address in {m.address for name in clusters if name in self._pools for m in self._pools[name]}:
                self._holders.setdefault(address, []).append(chooser)


def name_pool(clusters: Clusters) -> int:
    """What data planes call them among each other: 32 bits."""
    return crc32("\n".join(clusters).encode())


def _add(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.active + other.active, one.errors + other.errors, one.healthy and other.healthy, one.total + other.total
    )
