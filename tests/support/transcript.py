"""A conversation over ADS written down as text: `>` is the Envoy, `<` is us, `!` is what happens."""

from __future__ import annotations

from textwrap import dedent

from support.model_envoy import make_resource, make_snapshot
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.exchange import Request, Response
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LABELS, LISTENER, ROUTE
from weighbridge_operator.xds.snapshot import Snapshot

KINDS = {label: kind for kind, label in LABELS.items()}


def gateway(clusters: str, *, weights: str = "1", route: str | None = None, listener: str = "1") -> Snapshot:
    """`clusters` "a1 b2" are names with versions; every one has an assignment and is routed to."""
    names = [cluster[0] for cluster in clusters.split()]
    return make_snapshot(
        *(make_resource(CLUSTER, c[0], c[1:], [(ENDPOINT, c[0])]) for c in clusters.split()),
        *(make_resource(ENDPOINT, name, weights) for name in names),
        make_resource(LISTENER, "l", listener, [(ROUTE, "r")]),
        make_resource(ROUTE, "r", route or "".join(names), [(CLUSTER, name) for name in names]),
    )


def lead(leads: str, **assignments: str) -> Snapshot:
    """`leads` "m:a n:b": what is asked for, and the cluster it goes to; each has this form of its assignment."""
    pairs = [(cluster, asked) for asked, _, cluster in (each.partition(":") for each in leads.split())]
    route = make_resource(ROUTE, "r", leads, [(CLUSTER, name) for name in assignments], pairs)
    return make_snapshot(
        *(make_resource(CLUSTER, name, "1", [(ENDPOINT, name)]) for name in assignments),
        *(make_resource(ENDPOINT, name, form) for name, form in assignments.items()),
        make_resource(LISTENER, "l", "1", [(ROUTE, "r")]),
        route,
    )


class Talk:
    """Writes down a conversation. `say("EDS 4 a b")` is a request: type, nonce (`-` for none), names, `NACK text`."""

    def __init__(self, talk: Conversation | None = None) -> None:
        self.talk = talk or Conversation()
        self.lines: list[str] = []
        self.now = 0.0

    def say(self, *requests: str, version: str = "") -> None:
        for text in requests:
            self.lines.append(f"> {text}")
            said, _, error = text.partition(" NACK ")
            label, nonce, *names = said.split()
            nonce = "" if nonce == "-" else nonce
            request = Request(KINDS[label], version, nonce, tuple(names), error or None)
            self.write(self.talk.receive(request, self.now))

    def offer(self, snapshot: Snapshot, what: str) -> None:
        self.lines.append(f"! {what}")
        self.write(self.talk.offer(snapshot, self.now))

    def warm(self) -> None:
        waiting = self.talk.waits_for_warmth
        self.lines.append(f"! warm: {' '.join(sorted(waiting))}")
        self.write(self.talk.warmed(waiting, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.lines.append(f"! {seconds:g} s pass")
        self.write(self.talk.tick(self.now))

    def write(self, responses: tuple[Response, ...]) -> None:
        for response in responses:
            held = " ".join(f"{resource.name}@{resource.version}" for resource in response.resources)
            self.lines.append(f"  < {LABELS[response.kind]} {response.nonce} {held}".rstrip())

    def start(self, snapshot: Snapshot) -> None:
        """A cold start, not written down."""
        self.talk.offer(snapshot, self.now)
        names = " ".join(snapshot.endpoints)
        self.say("CDS -", "CDS 1", f"EDS - {names}")
        for nonce in range(2, 2 + len(snapshot.endpoints)):
            self.say(f"EDS {nonce} {names}")
        self.say("LDS -")
        listener = int(self.lines[-1].split()[2])
        self.say(f"LDS {listener}", "RDS - r", f"RDS {listener + 1} r")
        assert self.talk.settled
        self.lines.clear()

    def reads(self, expected: str) -> None:
        assert "\n".join(self.lines) == dedent(expected).strip()
