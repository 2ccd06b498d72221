"""What one Prometheus server knows of the fleet: the questions to ask it, and the answers followed node by node.

Everything here is of one server. A question is asked and its answer read in one thread; questions never share a node's
track, so they need no lock among themselves.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from weighbridge_operator.core.load import AHEAD
from weighbridge_operator.sources.merging import INTERVALS, MAXIMUM_AGE, Dated, Found, tell_age
from weighbridge_operator.sources.prometheus_answers import (
    AnswerError,
    Index,
    OwnQuery,
    Series,
    Track,
    Wanted,
    follow,
    follow_own,
    pace,
    read_series,
)
from weighbridge_operator.sources.prometheus_queries import (
    WINDOW_MAXIMUM,
    WINDOW_MINIMUM,
    Query,
    list_queries,
    spell_query,
    spell_range,
)
from weighbridge_operator.sources.prometheus_server import QueryError

SERIES_MAXIMUM: Final = 60_000  # of one answer
OWN_MAXIMUM: Final = 200  # different queries of users in one round
SELECTOR_NEEDED: Final = "ranges only allowed for vector selectors"
TIMELESS: Final = (
    'is no selector, so that the age of its numbers cannot be known; write a selector as my_queue{pod="a"}, or give '
    "their Unix time in spec.metrics.prometheus.times as min(timestamp(my_queue))"
)


class Server(Protocol):
    """Of PrometheusServer what is needed here."""

    name: str
    steps: int

    def ask(self, text: str) -> object: ...
    def to_monotonic(self, at: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A known query or a user's own, and the nodes that it is asked for."""

    wanted: tuple[Wanted, ...]
    known: Query | None = None
    own: OwnQuery | None = None

    @property
    def name(self) -> str:
        return self.known.name if self.known else f"own {self.own}"


class Fleet:
    """What is known through one server. Times handed out are monotonic."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._steps = 0
        # One thread reads at a time: more would be no faster, and the event loop would wait for its turn among them.
        self._reading = threading.Lock()
        self._tracks: dict[str, dict[str, Track]] = {}  # question -> node -> track
        self._placed: dict[tuple[str, str], tuple[float, float]] = {}  # (question, node) -> Unix, monotonic
        self._windows: dict[str, float] = {}
        self._errors: dict[str, str] = {}  # question -> why it has no answer
        self._asked: tuple[Question, ...] = ()

    def list_questions(self, wanted: Sequence[Wanted]) -> tuple[Question, ...]:
        """What to ask for these nodes; what concerned others is forgotten."""
        if self._steps != self._server.steps:
            # Its clock was set: what was placed by the old time stays where it is, and nothing is continued.
            self._steps = self._server.steps
            self._tracks, self._placed = {}, {}
        every = tuple(wanted)
        pods = tuple(w for w in every if w.pod)
        questions = [
            Question(pods if query.of_pods else every, known=query)
            for query in list_queries((w.engine for w in every), [w.pod for w in pods if w.pod])
        ]
        asked: dict[OwnQuery, list[Wanted]] = {}
        for each in every:
            for own in each.own:
                asked.setdefault(own, []).append(each)
        questions += [Question(tuple(nodes), own=own) for own, nodes in list(asked.items())[:OWN_MAXIMUM]]
        self._asked = tuple(questions)
        self._errors = {
            f"own {own}": f"is one of more than {OWN_MAXIMUM} queries of users; write one for many nodes"
            for own in list(asked)[OWN_MAXIMUM:]
        }
        self._forget({question.name for question in questions}, {each.node for each in every})
        return self._asked

    def ask(self, question: Question) -> None:
        """Asks and reads one. Raises PrometheusError; what concerns the question alone is kept for `tell`."""
        try:
            if question.known is not None:
                self._ask_known(question, question.known)
            elif question.own is not None:
                self._ask_own(question, question.own)
        except QueryError as error:
            self._errors[question.name] = _tell_refusal(question, str(error))
        except AnswerError as error:
            self._errors[question.name] = f"is of no use: Prometheus {error}"

    def place(self, now: float) -> float | None:
        """Finds the instants of what is new at `now`, and the newest of all."""
        times = [
            self._place(name, node, track, now)
            for name, tracks in self._tracks.items()
            for node, track in tracks.items()
        ]
        return max(times, default=None)

    def tell(self, wanted: Sequence[Wanted], now: float, amiss: str | None) -> Mapping[str, Found]:
        """What is known of each node at `now`. `amiss`: why the server did not answer this time."""
        placed: dict[str, list[tuple[Question, Track, float]]] = {}
        for question in self._asked:
            for node, track in self._tracks.get(question.name, {}).items():
                at = self._placed.get((question.name, node))
                if at is not None:
                    placed.setdefault(node, []).append((question, track, at[1]))
        hosts = _count_hosts(wanted)
        found = {w.node: self._tell_node(w, placed.get(w.node, ()), now, amiss, hosts) for w in wanted}
        return {node: each for node, each in sorted(found.items()) if each is not None}

    def _tell_node(
        self,
        wanted: Wanted,
        tracks: Sequence[tuple[Question, Track, float]],
        now: float,
        amiss: str | None,
        hosts: Counter[str],
    ) -> Found | None:
        own = {each.signal for each in wanted.own}
        numbers: dict[str, Dated] = {}
        for question, track, at in tracks:
            # Of several containers the oldest dates the pod, which comes more often than each of them.
            every = max(track.interval, question.known.every if question.known else 0.0)
            until = at + max(MAXIMUM_AGE, INTERVALS * every)
            for signal, value in track.values.items():
                if question.own is not None or (signal not in own and signal not in numbers):
                    numbers[signal] = Dated(value, at, until, own=question.own is not None)
        if not numbers and not wanted.required:
            return None
        error = amiss or self._name_fault(wanted, numbers, now, hosts)
        return Found(f"Prometheus {self._server.name}", numbers, error if wanted.required else None)

    def _name_fault(self, wanted: Wanted, numbers: Mapping[str, Dated], now: float, hosts: Counter[str]) -> str | None:
        for own in wanted.own:
            if (told := self._errors.get(f"own {own}")) is not None:
                return f"the query for {own.signal} {told}"
        is_pod = wanted.pod is not None
        for question in self._asked if self._errors else ():
            words = self._errors.get(question.name)
            if words is not None and question.known is not None and question.known.concerns(wanted.engine, is_pod):
                return f"the query for {question.name} {words}"
        if not numbers:
            return _tell_absence(wanted, hosts)
        if all(dated.until < now for dated in numbers.values()):
            return tell_age(now - max(dated.at for dated in numbers.values()))
        return None

    def _ask_known(self, question: Question, query: Query) -> None:
        window = self._windows.get(query.name, WINDOW_MAXIMUM)
        pods = [each.pod for each in question.wanted if each.pod]
        names = {name for each in question.wanted for name, _ in each.labels}
        answer = self._server.ask(spell_query(query, window, pods, names))
        with self._reading:
            self._read_known(question, query, read_series(answer, SERIES_MAXIMUM), window)

    def _read_known(self, question: Question, query: Query, series: Sequence[Series], window: float) -> None:
        index = Index(series, question.wanted)
        counted = _count_hosts(question.wanted)
        # On a host with several nodes a port that is none of theirs is the machine's, never an engine's.
        shared = frozenset(host for host, nodes in counted.items() if nodes > 1) if query.engine else frozenset()
        tracks = self._tracks.setdefault(query.name, {})
        for wanted in question.wanted:
            if query.concerns(wanted.engine, wanted.pod is not None):
                track = follow(query, index.find(wanted, shared), tracks.get(wanted.node), window)
                if track is not None:
                    tracks[wanted.node] = track
        self._pace(query.name, series)

    def _ask_own(self, question: Question, own: OwnQuery) -> None:
        window = self._windows.get(question.name, WINDOW_MAXIMUM)
        times = None
        if own.time is not None:
            # First, so that a scrape between the two makes the numbers look older, not younger.
            times = Index(read_series(self._server.ask(own.time), SERIES_MAXIMUM), question.wanted)
        text = own.text if own.time is not None else spell_range(own.text, window)
        result = self._server.ask(text)
        if own.time is None and isinstance(result, list) and any("values" not in each for each in result):
            self._errors[question.name] = TIMELESS
            return
        series = read_series(result, SERIES_MAXIMUM)
        index = Index(series, question.wanted)
        tracks = self._tracks.setdefault(question.name, {})
        for wanted in question.wanted:
            dates = None if times is None else times.find_own(wanted)
            track = follow_own(own.signal, index.find_own(wanted), dates, tracks.get(wanted.node), window)
            if track is not None:
                tracks[wanted.node] = track
        if not series:
            self._errors[question.name] = "matches no series in Prometheus"
        if own.time is None:
            self._pace(question.name, series)

    def _pace(self, name: str, series: Sequence[Series]) -> None:
        longest = pace(series)
        if longest > 0:
            self._windows[name] = min(WINDOW_MAXIMUM, max(WINDOW_MINIMUM, INTERVALS * longest + 5))
        else:
            self._windows[name] = WINDOW_MAXIMUM

    def _place(self, question: str, node: str, track: Track, now: float) -> float:
        """The track's instant on our clock, found once: it must not wander with what is believed of the server's."""
        known = self._placed.get((question, node))
        if known is None or known[0] != track.at:
            at = self._server.to_monotonic(track.at)
            # The future is a clock that differs; far ahead it is left to be refused as such.
            known = track.at, min(at, now) if at <= now + AHEAD else at
            self._placed[question, node] = known
        return known[1]

    def _forget(self, questions: set[str], nodes: set[str]) -> None:
        self._tracks = {
            name: {node: track for node, track in tracks.items() if node in nodes}
            for name, tracks in self._tracks.items()
            if name in questions
        }
        self._placed = {key: at for key, at in self._placed.items() if key[0] in questions and key[1] in nodes}
        self._windows = {name: window for name, window in self._windows.items() if name in questions}


def _tell_refusal(question: Question, words: str) -> str:
    if SELECTOR_NEEDED in words:
        return TIMELESS
    alone = question.own is not None and question.own.time is None
    return f"{words} (without a time of its own it is asked as a selector with a range)" if alone else words


def _count_hosts(wanted: Sequence[Wanted]) -> Counter[str]:
    return Counter(host for each in wanted if not each.labels for host in each.hosts)


def _tell_absence(wanted: Wanted, hosts: Counter[str]) -> str:
    if wanted.labels:
        told = ", ".join(f'{name}="{value}"' for name, value in wanted.labels)
        return f"no series in Prometheus that is known for load matches {{{told}}}"
    told = " or ".join(sorted(wanted.instances)[:2])
    also = "" if any(hosts[host] > 1 for host in wanted.hosts) else " nor another port of that host"
    return f"no series in Prometheus that is known for load has the instance {told}{also}; see metrics.prometheus.match"
