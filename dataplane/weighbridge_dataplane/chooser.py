"""Names a node for each request, from samples a quarter of a second old, or is silent where it has no right to.

Least J wins; of those that nothing tells apart one at random (`ties`):

    fill_i = kv_i + (waiting_i + sent since the sample) · g_i       at least 0.9 · (own_i + 0.7 · others_i) · g_i
    fill_i · min(4, max(1, median(v) / v_i)) ^ 0.5                  a slow node holds its requests longer
    fill_i + g_i · (0.3 + 0.7 · size / usual size)                  with this request: a large one fills a small node
    J_i    = fill_i² + (unread_i + ¼ read_i) / P_i - ¾ hit_i / P    a full node: as a second of unread prompts

Fill is squared because a cache that is half empty keeps nobody waiting, whatever its size, and a full one everybody.
What is unread is everybody's, told by the node where its engine counts first tokens (`unread`), else what we sent; what
would be read of this prompt, size - hit, counts a quarter: by all of it nodes that read slowly would stay empty. Where
the engine does not tell when it reads, it counts nothing, and a hit whole: an idle node's best rate is its traffic's.

Without a sample of its own, or with one that is not believed, a node is judged by our own counts. Where fewer than half
of the nodes can be judged by samples the choice is silent, and stays so until they could be for 10 s: to go to and fro
between the two is worse than either. g, v and P: `rates`. No clock and no randomness but the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from weighbridge_dataplane.beginnings import Beginnings
from weighbridge_dataplane.draws import Draws
from weighbridge_dataplane.facts import Asked, Beginning, Choice, Counts, Heard, Member, Row, Sample, Sent, Silence
from weighbridge_dataplane.rates import ROOM_KV, fill_of_request, make_sound, middle, rates_of_reading, tells_load
from weighbridge_dataplane.sizes import Sizes
from weighbridge_dataplane.standing import FRESH, OTHERS_WEIGHT, Standing, tells_reading
from weighbridge_dataplane.ties import pick
from weighbridge_metrics.engines import PROGRESS

FLOOR = 0.9
FOLLOW = 0.5  # of what we sent since the sample, that each Envoy we don't hear sent: it finds the same node best
OWN_PART = 0.25  # of the time in which the prompt itself would be read, beside that of those before it
PROMPT_PART = 0.7  # of what a usual request fills
LARGEST = 20.0  # usual requests that one counts as, at most
SLOWEST = 4.0
BACKLOG_MOST = 5.0  # seconds of reading that are remembered as unread
QUIET = 10.0  # seconds for which the nodes must have been known before it speaks again
OTHERS_FRESH = 10.0  # seconds
LOOK, LOOK_AT_ONE = 0.05, 0.0002  # seconds between two looks at all nodes, at least, and for each node
FEW, DRAWS, MANY_DRAWS = 32, 3, 16  # nodes that are all looked at; draws with two Envoys unheard, and with more nodes
LEAK = 5.0  # seconds in which two thirds of what seems unread are forgotten where no engine tells it: guesses add up


class Chooser:
    """For one set of nodes, which others know as `pool`, in one of so many processes beside this Envoy.

    `random` gives numbers from 0 to below 1.
    """

    def __init__(self, random: Callable[[], float], processes: int = 1, pool: int = 0) -> None:
        self._random, self._processes = random, processes
        self._nodes: dict[str, Standing] = {}
        self._order: tuple[Standing, ...] = ()
        self._draws = Draws(random)  # from those that may be named, as of the last look
        self._envoys = 1
        self._attended = Heard()  # of the other data planes
        self._unheard = 0  # other Envoys that don't tell us what they send
        self._counted = self._heard = float("-inf")
        self._quiet_until = float("-inf")
        self._spoke = False
        self._beginnings = Beginnings(processes, pool)
        self._sizes = Sizes()
        self._reading: float | None = None  # the pool's P
        self._tells = True  # whether all nodes' engines say what they have not read
        self._stale = True
        self._looked = self._refreshed = float("-inf")  # when `_silence` was found, and g and the like
        self._silence: Silence | None = None

    def tell(self, members: Sequence[Member], envoys: int) -> None:
        """The nodes now, all of them. What is known of those that stay is kept."""
        known, self._nodes = self._nodes, {}
        for member in members:
            standing = known.get(member.address)
            if standing is None or standing.member.node != member.node:
                standing = Standing(member)
            standing.member = member
            self._nodes[member.address] = standing
        gone = {address for address, standing in known.items() if self._nodes.get(address) is not standing}
        self._order, self._envoys, self._stale = tuple(self._nodes.values()), max(1, envoys), True
        self._tells = all(member.engine in PROGRESS for member in members)
        self._beginnings.tell(members, self._envoys, gone)
        self.attend(self._attended)
        self._draws.tell(())
        self._looked = self._refreshed = float("-inf")

    def share(self, nodes: int, choosers: int) -> None:
        """So many nodes there are in so many choosers, which share what is remembered."""
        self._beginnings.share(nodes, choosers)

    @property
    def size(self) -> int:
        """How many nodes it has."""
        return len(self._nodes)

    def read(self, address: str, sample: Sample | None, now: float) -> None:
        """A node's page was read; None: it could not be, and the sample before grows old."""
        standing = self._nodes.get(address)
        if standing is None or sample is None:
            return
        sound = make_sound(sample)
        if tells_load(sound):
            read = standing.read(sound, self._sizes.ratio, self._sizes.unread)
            if read is None:
                self._beginnings.forget(address)
            elif read > 0:
                self._sizes.read(read, now)
            self._stale = True

    def count(self, counts: Mapping[str, Counts], now: float) -> None:
        """Envoy's own page was read. A node that is not on it is unknown to Envoy, and not named."""
        self._counted = now
        for address, standing in self._nodes.items():
            standing.take_count(counts.get(address), now)

    def hear(self, active: Mapping[str, int], suspect: Collection[str], now: float) -> None:
        """What all Envoys together have in flight, and whom the weights suspect."""
        self._heard = now
        for address, standing in self._nodes.items():
            told = active.get(address)
            standing.others = None if told is None else float(max(0, told - standing.own))
            standing.hinted = address in suspect

    def attend(self, heard: Heard) -> None:
        """Who tells us now what is sent; of the rest it is guessed."""
        self._attended = heard
        self._unheard = max(0, self._envoys - 1 - heard.envoys)
        told = heard.begins and not self._unheard and heard.beside >= self._processes - 1
        self._beginnings.attend(heard.envoys, told)

    def hear_sent(self, sent: Sent, now: float) -> None:
        """What another data plane sent to a node of late."""
        if (standing := self._nodes.get(sent.address)) is not None:
            standing.hearsay.hear(now - sent.age, sent.requests, sent.tokens)

    def hear_begun(self, begun: Beginning) -> None:
        """What another data plane's request to a node began with."""
        if begun.address in self._nodes:
            self._beginnings.hear(begun)

    def choose(self, asked: Asked, now: float) -> Choice:
        """The node for this request, remembered as sent there."""
        silence = self._find_silence(now)
        if silence is not None:
            self._sizes.pause()
            return Choice(None, silence)
        if self._stale and not 0 <= now - self._refreshed < self._pause:
            self._refresh(now)
        size = self._sizes.measure(asked.size)
        weight = min(LARGEST, 1 - PROMPT_PART + PROMPT_PART * self._sizes.compare(size))
        nodes = self._draw()
        drawn = self._beginnings.find(asked, size, nodes)
        hits = drawn.draws
        judged = [
            (each, self._judge(each, size, min(hits.get(each.member.address, 0.0), size), weight, now))
            for each in self._gather(nodes, hits)
            if each.is_open(now)
        ]
        best = pick(judged, size * self._sizes.ratio, weight, drawn.last, self._random)
        if best is None:
            return Choice(None, "none")
        address = best.member.address
        tokens = self._send(best, size, min(drawn.read.get(address, 0.0), size), now)
        begun = self._beginnings.remember(address, asked, size, drawn.trust)
        rows = tuple(row for _, row in judged)
        return Choice(best.member, None, rows, tokens, begun, drawn.known, drawn.home)

    @property
    def _pause(self) -> float:
        """Seconds between two looks at all nodes: where they are many these would cost more than the choices."""
        return max(LOOK, LOOK_AT_ONE * len(self._order))

    def _find_silence(self, now: float) -> Silence | None:
        if not self._nodes:
            return "unknown"
        if now - self._counted > FRESH:
            return "stale"
        if not 0 <= now - self._looked < self._pause:
            self._looked, self._silence = now, self._look(now)
        return self._silence

    def _look(self, now: float) -> Silence | None:
        # Nodes that are out for Envoy take no part: what is left decides among itself. Those that fail do: where most
        # do, the requests may be to blame, and all of them on the rest would be worse.
        if self._envoys > 1 and now - self._heard > OTHERS_FRESH:
            for standing in self._order:
                standing.others = None
        healthy = [standing for standing in self._order if standing.is_healthy]
        there = tuple(standing for standing in healthy if now >= standing.left_out_until)
        if there != self._draws.nodes:
            self._draws.tell(there)
        usable = sum(standing.is_usable(now) for standing in there)
        if usable < max(2, (len(healthy) + 1) // 2):
            # Before it has spoken there is no to and fro: the first pages come one by one.
            self._quiet_until = now + QUIET if self._spoke else self._quiet_until
            return "few" if there else "none"
        if now < self._quiet_until:
            return "few"
        self._spoke = True
        return None

    def _refresh(self, now: float) -> None:
        """What changes with samples alone, reckoned once for many requests."""
        self._stale, self._refreshed = False, now
        nodes = self._order
        fills = fill_of_request((node.rates, node.member.capacity) for node in nodes)
        speed = middle(node.rates.speed for node in nodes)
        readings = rates_of_reading(node.rates for node in nodes)
        self._reading = middle(readings)
        for node, fill, reading in zip(nodes, fills, readings, strict=True):
            node.g, node.reading = fill, reading
            node.doubt = OWN_PART * node.rates.doubt / reading if reading else 0.0
            own = node.rates.speed
            node.slow = min(SLOWEST, max(1.0, speed / own)) ** 0.5 if speed and own else 1.0

    def _draw(self) -> dict[str, Standing]:
        """Some, by address; none where all are looked at."""
        alone = self._unheard + 1 < DRAWS
        if alone and len(self._order) <= FEW:
            return {}
        return self._draws.draw(MANY_DRAWS if alone else DRAWS)

    def _gather(self, drawn: dict[str, Standing], hits: Mapping[str, float]) -> Iterable[Standing]:
        """Those that were drawn, and the two that have read most."""
        if not drawn:
            return self._draws.nodes
        for address in sorted(hits, key=hits.__getitem__)[-2:]:
            if address in self._nodes:
                drawn[address] = self._nodes[address]
        return drawn.values()

    def _judge(self, standing: Standing, size: float, hit: float, weight: float, now: float) -> Row:
        """The parts of J; `weight` is the request itself, in usual ones."""
        own, others, g = standing.own, standing.others, standing.g
        usable = standing.is_usable(now)
        sample = standing.rates.sample
        if usable:
            assert sample is not None
            assert sample.running is not None
            assert sample.waiting is not None
            kv = sample.running * g if sample.kv is None else sample.kv
            sent = (standing.sent - standing.sent_at_sample) * (1 + FOLLOW * self._unheard)
            added = sample.waiting + sent + standing.hearsay.requests
            fill = kv + added * g
            if sample.waiting and kv >= ROOM_KV:
                fill = max(fill, 1 + added * g)  # whoever is first in its queue needs more than is free
            if (room := standing.rates.room) is not None:
                fill = max(fill, (sample.running + added) / room)
            fill = max(fill, FLOOR * (own + OTHERS_WEIGHT * (others or 0.0)) * g) * standing.slow
        else:
            late = standing.hearsay.measure_late(now)
            fill = (own * self._envoys if others is None else own + others + late) * g
        fill += weight * g
        reading = standing.reading or self._reading
        if not usable and reading and self._reading:
            reading = min(reading, self._reading)  # what it said of its speed is not believed either
        # Of some it is known and of others guessed, from what was sent alone: that is no comparison.
        unread = self._settle(standing, reading, now, usable) if reading and self._tells else 0.0
        if usable and self._tells:
            unread += standing.sent_tokens * FOLLOW * self._unheard + standing.hearsay.tokens
        ratio = self._sizes.ratio
        own_part = OWN_PART if self._tells else 0.0
        backlog = (unread + own_part * (size - hit) * ratio) / reading if reading else 0.0
        hit *= ratio
        saved = (1 - own_part) * hit / self._reading if self._reading else 0.0
        return standing.member.address, fill * fill + backlog - saved, fill, backlog, hit, not usable

    def _settle(self, standing: Standing, reading: float, now: float, usable: bool) -> float:
        """Prompt tokens that the node has not read: as of its sample where it tells, less its usual speed since."""
        passed, left = max(0.0, now - standing.backlog_at), standing.backlog
        told = usable and standing.unread.requests is not None
        if usable and not told and tells_reading(standing.rates.sample):
            left *= math.exp(-passed / LEAK)
        else:
            left -= reading * passed
        if not told:
            left = min(left, BACKLOG_MOST * reading, standing.own * 4 * self._sizes.usual)
        standing.backlog, standing.backlog_at = max(0.0, left), now
        return standing.backlog

    def _send(self, standing: Standing, size: float, hit: float, now: float) -> float:
        """Counts it; the tokens that have to be read."""
        tokens = (size - hit) * self._sizes.ratio
        standing.sent += 1
        standing.sent_tokens += tokens
        # Of a node that is not believed nobody else says what the others send.
        share = 1.0 if standing.is_usable(now) else max(standing.share, 1 / self._envoys)
        standing.backlog += tokens / share
        standing.unread.send(size - hit)
        self._sizes.send(size - hit, tells_reading(standing.rates.sample))
        return tokens
