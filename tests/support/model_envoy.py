"""A model of Envoy's side of ADS: it subscribes, accepts, refuses, warms and re-requests in the way the real one does.

Content whose version ends in "!" is poison: the model refuses it. It keeps what a test wants to know: what serves now,
what it refused, and of that what the server was told in a way that leaves no doubt about the culprit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from weighbridge_operator.xds.exchange import Request, Response
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, KINDS, LISTENER, ROUTE
from weighbridge_operator.xds.snapshot import Resource, Snapshot, combine_versions


def make_resource(
    kind: str,
    name: str,
    version: str,
    needs: Iterable[tuple[str, str]] = (),
    leads: Iterable[tuple[str, str]] = (),
) -> Resource:
    return Resource(kind, name, version, b"", tuple(sorted(needs)), frozenset(leads))


def make_snapshot(*resources: Resource) -> Snapshot:
    """A snapshot of resources that are no real messages."""
    sets = {kind: {r.name: r for r in sorted(resources, key=lambda r: r.name) if r.type_url == kind} for kind in KINDS}
    return Snapshot(sets, {kind: combine_versions(sets[kind].values()) for kind in KINDS})


def is_poison(resource: Resource) -> bool:
    return resource.version.endswith("!")


class ModelEnvoy:
    """`named`: refusals of sets name the culprits and apply the rest, else the whole response is refused unread."""

    def __init__(self, *, named: bool) -> None:
        self.named = named
        self.held: dict[str, dict[str, Resource]] = {kind: {} for kind in KINDS}
        self.warming: dict[str, bool] = {}  # new cluster -> whether it has its assignment
        self.starts = True  # listeners are asked for when the first clusters are warm
        self.refused: set[tuple[str, str, str]] = set()
        self.convicted: set[tuple[str, str, str]] = set()
        self.refused_groups: set[tuple[str, frozenset[tuple[str, str]]]] = set()
        self.starved: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set()}  # subscribed anew and not yet answered
        self.accepted: dict[str, str] = dict.fromkeys(KINDS, "")
        self.connect()

    def connect(self) -> None:
        """A new stream: every type that was subscribed is subscribed again."""
        self.requests: deque[Request] = deque()
        self.inbox: deque[Response] = deque()
        self.untold: dict[str, Response] = {}  # refused responses of this stream, by nonce
        self.nonces = dict.fromkeys(KINDS, "")
        self._ask(CLUSTER)
        if self.held[CLUSTER]:
            self._ask(ENDPOINT)
        if not self.starts:
            self._ask(LISTENER)
        if self.held[LISTENER]:
            self._ask(ROUTE)

    @property
    def serving(self) -> set[str]:
        """Clusters that can take requests."""
        return {name for name in self.held[CLUSTER] if name not in self.warming}

    def names(self, kind: str) -> tuple[str, ...]:
        referrer = {ENDPOINT: CLUSTER, ROUTE: LISTENER}.get(kind)
        referrers = self.held[referrer].values() if referrer is not None else ()
        return tuple(sorted({name for r in referrers for needed, name in r.needs if needed == kind}))

    def speak(self) -> Request:
        """Sends the oldest request: from here on the server knows."""
        request = self.requests.popleft()
        if request.error is None or request.nonce not in self.untold:
            return request
        response = self.untold.pop(request.nonce)
        self.refused_groups.add((response.kind, _contents(response)))
        bad = [resource for resource in response.resources if is_poison(resource)]
        if request.error.startswith("Error adding") or len(response.resources) == 1:
            self.convicted |= {(response.kind, r.name, r.version) for r in bad}
        return request

    def join_last(self) -> None:
        """Lets the newest acknowledgement take the place of an unsent one of the same type before it."""
        last = self.requests[-1]
        for earlier in [r for r in self.requests if r is not last and r.kind == last.kind and r.error is None]:
            self.requests.remove(earlier)

    def warm(self) -> None:
        """Every cluster that has its assignment is warm now."""
        self.take_for_warm([name for name, fed in self.warming.items() if fed])

    def take_for_warm(self, clusters: Iterable[str]) -> None:
        self.warming = {name: fed for name, fed in self.warming.items() if name not in set(clusters)}
        if self.starts and self.accepted[CLUSTER] and not self.warming:
            self.starts = False
            self._ask(LISTENER)

    def handle(self) -> Response:
        """Takes in the oldest response and answers it."""
        response = self.inbox.popleft()
        kind = response.kind
        self.nonces[kind] = response.nonce
        bad = [resource for resource in response.resources if is_poison(resource)]
        if bad:
            self._refuse(response, bad)
            return response
        self.accepted[kind] = response.version
        asks = self._apply_set(kind, response.resources) if kind in (CLUSTER, LISTENER) else self._apply_each(response)
        self._ask(kind)
        for other in asks:
            self._ask(other)
        self.take_for_warm(())
        return response

    def _refuse(self, response: Response, bad: list[Resource]) -> None:
        kind = response.kind
        group = _contents(response)
        assert (kind, group) not in self.refused_groups, f"the refused response {sorted(group)} came again"
        self.refused |= {(kind, r.name, r.version) for r in bad}
        self.untold[response.nonce] = response
        text = "Proto constraint validation failed"
        asks: tuple[str, ...] = ()
        if self.named and kind in (CLUSTER, LISTENER):
            text = "Error adding/updating cluster(s) " + ", ".join(f"{r.name}: is poison" for r in bad)
            good = {r.name: r for r in response.resources if not is_poison(r)}
            kept = {r.name: self.held[kind][r.name] for r in bad if r.name in self.held[kind]}
            asks = self._apply_set(kind, tuple({**good, **kept}.values()))
        if kind == ENDPOINT:
            # As the real one: a cluster that waits for its assignment goes live empty.
            self.warming |= {r.name: True for r in response.resources if r.name in self.warming}
        self._ask(kind, error=text)
        for other in asks:
            self._ask(other)

    def _apply_set(self, kind: str, resources: tuple[Resource, ...]) -> tuple[str, ...]:
        before, after = self.held[kind], {r.name: r for r in resources}
        changed = {name for name in after if after[name] != before.get(name)}
        self.held[kind] = after
        fed = ENDPOINT if kind == CLUSTER else ROUTE
        if kind == CLUSTER:
            self.warming = {name: fed for name, fed in self.warming.items() if name in after}
            for name in changed - before.keys():
                self.warming[name] = not any(need == ENDPOINT for need, _ in after[name].needs)
        for name in changed:
            self.starved[fed] |= {needed for need, needed in after[name].needs if need == fed}
        self.starved[fed] &= set(self.names(fed))
        self.held[fed] = {name: r for name, r in self.held[fed].items() if name in self.names(fed)}
        return (fed,) if changed or before.keys() - after.keys() else ()

    def _apply_each(self, response: Response) -> tuple[str, ...]:
        for resource in response.resources:
            if resource.name in self.names(response.kind):
                self.held[response.kind][resource.name] = resource
                self.starved[response.kind].discard(resource.name)
                if response.kind == ENDPOINT and resource.name in self.warming:
                    self.warming[resource.name] = True
        return ()

    def _ask(self, kind: str, error: str | None = None) -> None:
        self.requests.append(Request(kind, self.accepted[kind], self.nonces[kind], self.names(kind), error))


def _contents(response: Response) -> frozenset[tuple[str, str]]:
    return frozenset((r.name, r.version) for r in response.resources)


def dangling(envoy: ModelEnvoy) -> dict[str, set[str]]:
    """Held route -> clusters it leads to, over clusters of clusters too, that can't serve."""
    found: dict[str, set[str]] = {}
    for route in envoy.held[ROUTE].values():
        ahead, seen = [route], set[str]()
        while ahead:
            new = {name for kind, name in ahead.pop().needs if kind == CLUSTER} - seen
            seen |= new
            ahead += [envoy.held[CLUSTER][name] for name in new if name in envoy.held[CLUSTER]]
        if seen - envoy.serving:
            found[route.name] = seen - envoy.serving
    return found
