"""A conversation with a model Envoy, in any order of events: what must hold always, and what must hold in the end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.model_envoy import ModelEnvoy, dangling, is_poison, make_resource, make_snapshot
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.exchange import Response
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE
from weighbridge_operator.xds.memory import Memory
from weighbridge_operator.xds.snapshot import Resource, Snapshot

NAMES = ("a", "b", "c", "d", "e")
VERSIONS = st.sampled_from(["1", "1", "2", "2", "3!"])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    clusters = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    resources = []
    for name in clusters:
        resources.append(make_resource(CLUSTER, name, draw(VERSIONS), [(ENDPOINT, name)]))
        resources.append(make_resource(ENDPOINT, name, draw(VERSIONS)))
    if clusters and draw(st.booleans()):
        parts = draw(st.lists(st.sampled_from(clusters), unique=True, min_size=1))
        version = "".join(sorted(parts)) + draw(VERSIONS)
        resources.append(make_resource(CLUSTER, "x", version, [(CLUSTER, part) for part in parts]))
        clusters = [*clusters, "x"]
    for listener, route in draw(st.sampled_from([(), (("l", "r"),), (("l", "r"), ("m", "s"))])):
        targets = draw(st.lists(st.sampled_from(clusters), unique=True)) if clusters else []
        resources.append(make_resource(LISTENER, listener, draw(VERSIONS), [(ROUTE, route)]))
        leads = [(draw(st.sampled_from(targets)), asked) for asked in "mn"] if targets else []
        version = "".join([*sorted(targets), *(cluster for cluster, _ in leads), draw(VERSIONS)])
        resources.append(make_resource(ROUTE, route, version, [(CLUSTER, target) for target in targets], leads))
    return make_snapshot(*resources)


class Stream(RuleBasedStateMachine):
    @initialize(named=st.booleans(), spread=st.sampled_from([1, 2, 64]))
    def connect(self, named: bool, spread: int) -> None:
        self.spread = spread
        self.envoy = ModelEnvoy(named=named)
        self.talk = Conversation(spread=spread)
        self.target: Snapshot | None = None
        self.now = 0.0
        self.responses = 0

    def send(self, responses: tuple[Response, ...]) -> None:
        assert self.target is not None or not responses, "an answer before the first snapshot"
        for response in responses:
            for resource in response.resources:
                content = (response.kind, resource.name, resource.version)
                assert content not in self.envoy.convicted, f"{content} was refused and came again"
                if response.kind == ENDPOINT:
                    self.check_nodes(resource)
        self.responses += len(responses)
        self.envoy.inbox.extend(responses)

    def check_nodes(self, sent: Resource) -> None:
        """They are those that are wanted, or those that the Envoy has or is about to have: never older ones."""
        assert self.target is not None
        wanted = self.target.endpoints.get(sent.name)
        if wanted is None or is_poison(wanted):
            return
        coming = [r for response in self.envoy.inbox for r in response.resources if r.type_url == ENDPOINT]
        assert sent in (wanted, self.envoy.held[ENDPOINT].get(sent.name), *coming), f"{sent} was before"

    @rule(snapshot=snapshots())
    def offer(self, snapshot: Snapshot) -> None:
        self.envoy.refused_groups.clear()
        self.aim_at(snapshot)
        self.send(self.talk.offer(snapshot, self.now))

    def aim_at(self, snapshot: Snapshot) -> None:
        # What was refused may be tried again when the wish for it was given up in between.
        wanted = {(kind, r.name, r.version) for kind in snapshot.resources for r in snapshot.of(kind).values()}
        self.envoy.convicted &= wanted
        self.target = snapshot

    @rule()
    @precondition(lambda self: self.envoy.requests)
    def deliver_request(self) -> None:
        self.send(self.talk.receive(self.envoy.speak(), self.now))

    @rule()
    @precondition(lambda self: self.envoy.inbox)
    def deliver_response(self) -> None:
        before = dangling(self.envoy)
        self.envoy.handle()
        self.check_routes(before)

    def check_routes(self, before: dict[str, set[str]]) -> None:
        """No response may take a cluster from under a route, or bring a route before its cluster."""
        for name, missing in dangling(self.envoy).items():
            # What led to a refused cluster may lead to its successor's unfinished parts now: no worse than before.
            unexcused = set() if before.get(name) else missing
            unexcused -= self.list_excused()
            assert not unexcused, f"route {name} leads to {unexcused}, which cannot serve"

    def list_excused(self) -> set[str]:
        """What was refused, and what its held form leads to: that goes on although nobody may want a part of it."""
        refused = {cluster for kind, cluster, _ in self.envoy.refused if kind == CLUSTER}
        held = [self.envoy.held[CLUSTER][name] for name in refused if name in self.envoy.held[CLUSTER]]
        return refused | {name for cluster in held for kind, name in cluster.needs if kind == CLUSTER}

    @rule()
    def warm(self) -> None:
        self.envoy.warm()

    @rule()
    def look(self) -> None:
        waiting = self.talk.waits_for_warmth
        if waiting and not self.envoy.warming:
            self.send(self.talk.warmed(waiting, self.now))

    @rule()
    @precondition(lambda self: self.target is not None)
    def lose_patience(self) -> None:
        waiting = self.talk.waits_for_warmth
        self.envoy.take_for_warm(waiting)
        self.now += 2.0
        self.send(self.talk.tick(self.now))

    @rule()
    def reconnect(self) -> None:
        self.envoy.connect()
        self.talk = Conversation(self.talk.memory, spread=self.spread)
        if self.target is not None:
            self.send(self.talk.offer(self.target, self.now))

    @rule()
    def restart_envoy(self) -> None:
        before, self.envoy = self.envoy, ModelEnvoy(named=self.envoy.named)
        self.envoy.refused, self.envoy.convicted = before.refused, before.convicted
        self.talk = Conversation(self.talk.memory, spread=self.spread)
        if self.target is not None:
            self.send(self.talk.offer(self.target, self.now))

    @rule(snapshot=snapshots())
    def restart_server(self, snapshot: Snapshot) -> None:
        """We forget everything, the wish changes meanwhile, and the Envoy is asked what it holds."""
        if any(is_poison(listener) for listener in snapshot.listeners.values()):
            return  # listeners are not asked for, so theirs would rest
        held = {kind: dict(self.envoy.held[kind]) for kind in (CLUSTER, ROUTE)}
        self.talk = Conversation(Memory(held, frozenset(self.envoy.serving)), spread=self.spread)
        self.envoy.convicted.clear()
        self.envoy.connect()
        self.offer(snapshot)
        self.settle()

    @rule(joined=st.integers(2, 4))
    @precondition(lambda self: self.envoy.inbox)
    def join_acknowledgements(self, joined: int) -> None:
        """A paused type answers several responses with one request."""
        kind = self.envoy.inbox[0].kind
        while joined and self.envoy.inbox and self.envoy.inbox[0].kind == kind:
            if any(is_poison(resource) for resource in self.envoy.inbox[0].resources):
                return
            self.deliver_response()
            self.envoy.join_last()
            joined -= 1

    @rule()
    @precondition(lambda self: self.target is not None)
    def settle(self) -> None:
        self.responses = 0
        while self.envoy.requests or self.envoy.inbox or not self.talk.settled or self.talk.deadline is not None:
            if self.envoy.inbox:
                self.deliver_response()
            elif self.envoy.requests:
                self.deliver_request()
            elif waiting := self.talk.waits_for_warmth:
                self.warm()
                self.send(self.talk.warmed(waiting, self.now))
            else:
                assert self.talk.deadline is not None, "nothing moves any more"
                self.now = max(self.now, self.talk.deadline)
                self.send(self.talk.tick(self.now))
            assert self.responses < 150, "the conversation does not end"
        self.check_end()

    def check_end(self) -> None:
        assert self.target is not None
        held = self.envoy.held
        for kind in (CLUSTER, LISTENER, ENDPOINT, ROUTE):
            for name, wanted in self.target.of(kind).items():
                asked = kind in (CLUSTER, LISTENER) or name in self.envoy.names(kind)
                if asked and not is_poison(wanted):
                    assert held[kind].get(name) == wanted, f"{wanted} was not reached"
        led_to = {needed for r in (*held[ROUTE].values(), *held[CLUSTER].values()) for _, needed in r.needs}
        kept = {n for n, c in self.target.clusters.items() if is_poison(c)}
        assert held[CLUSTER].keys() <= self.target.clusters.keys() | led_to | kept
        assert held[LISTENER].keys() <= self.target.listeners.keys()
        for kind, starved in self.envoy.starved.items():
            for name in starved:
                wanted = self.target.get(kind, name)
                assert wanted is None or is_poison(wanted), f"{kind} {name} was subscribed anew and never answered"

    @rule(version=st.sampled_from(["4", "5", "6"]), data=st.data())
    @precondition(lambda self: self.target is not None and self.talk.settled and not self.envoy.requests)
    def change_load(self, version: str, data: st.DataObject) -> None:
        self.settle()
        assert self.target is not None
        names = [n for n in self.target.endpoints if n in self.envoy.names(ENDPOINT)]
        changed = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        resources = [r for kind in self.target.resources for r in self.target.of(kind).values()]
        resources = [r for r in resources if not (r.type_url == ENDPOINT and r.name in changed)]
        target = make_snapshot(*resources, *(make_resource(ENDPOINT, n, version) for n in changed))
        really = {n for n in changed if target.endpoints[n] != self.target.endpoints[n]}
        self.aim_at(target)
        responses = self.talk.offer(target, self.now)
        assert {r.kind for r in responses} <= {ENDPOINT}
        assert [n for r in responses for n in (x.name for x in r.resources)] == sorted(really)
        self.send(responses)

    @invariant()
    def say_what_waits(self) -> None:
        if hasattr(self, "talk"):
            assert self.talk.deadline is not None or not self.talk.waits_for_warmth

    def teardown(self) -> None:
        if getattr(self, "target", None) is not None:
            self.settle()


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=80, stateful_step_count=40, report_multiple_bugs=False)
