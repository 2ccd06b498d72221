"""A fleet file: nodes, their traffic, what happens to them, how truthful their numbers are, and what must come out.

Times are seconds from the start, sizes tokens, rates requests a second. One document of YAML; `files` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from weighbridge_api.base import Shape
from weighbridge_api.faults import fault, list_words, suggest
from weighbridge_api.values import ObjectName
from weighbridge_simulator.control import Control, ControlError, patch_control

Profile = Literal["llm", "classic"]
Mechanism = Literal[
    "llm", "classic", "round robin", "LEAST_REQUEST", "lowest score", "100 minus score", "precise", "picker"
]
OURS: tuple[Profile, ...] = get_args(Profile)
EVERY: tuple[Mechanism, ...] = get_args(Mechanism)
#: What is compared unless others are asked for: ours with the weights alone, and what needs no data plane.
MECHANISMS: tuple[Mechanism, ...] = EVERY[:6]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Moment = Annotated[float, Field(ge=0, le=86_400)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


class Compute(Shape):
    """A node that is not `size` times the unit in all of it; what is left out follows `size`."""

    step: Positive | None = None
    """Seconds of a step with nothing in it."""
    per_sequence: Positive | None = None
    """Seconds that each decoding sequence adds to a step."""
    prefill_rate: Positive | None = None
    """Prompt tokens read a second."""
    chunk: Tokens | None = None
    """Prompt tokens read in a step."""
    sequences: Tokens | None = None
    """Sequences at once."""
    kv_tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Tokens that the KV cache holds."""
    prefix_caching: bool | None = None
    """Whether what prompts begin with is kept and not read again; left out, yes."""


class Node(Shape):
    """A model server, or `count` alike, which are then named NAME-1, NAME-2, ..."""

    name: ObjectName
    count: Annotated[int, Field(ge=1, le=100)] = 1
    size: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Compute, sequences and KV, in unit nodes of 5.9 chats a second."""
    slow: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How many times slower than its size says."""
    capacity: Positive | None = None
    """What its ModelNode says of its room; left out, nothing."""
    engine: Literal["vllm", "sglang", "plain"] = "vllm"
    """Whose metrics it prints; plain: those of its machine alone."""
    joins: Moment = 0.0
    """When its ModelNode is applied."""
    compute: Compute = Compute()


class Lengths(Shape):
    """Lognormal lengths in tokens, clamped."""

    median: Positive
    sigma: Annotated[float, Field(ge=0, le=5)]
    least: Tokens
    most: Tokens

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.least > self.most:
            raise fault(f"has a least of {self.least} above its most of {self.most}", "swap them")
        return self


class Burst(Shape):
    """The rate times `factor`, for the last `lasts` seconds of every `every`."""

    factor: Annotated[float, Field(ge=1, le=100)]
    every: Positive
    lasts: Positive


class Several(Shape):
    """A share of the requests asks for `answers` answers at once (n > 1)."""

    share: Annotated[float, Field(ge=0, le=1)]
    answers: Annotated[int, Field(ge=2, le=64)] = 4


class Sessions(Shape):
    """Prompts that begin alike: turns of conversations, which send all that was said, under prompts of applications.

    `prompt` and `answer` of the traffic are then one turn's own.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Which part of the requests; the others stand alone and share nothing."""
    turns: Annotated[float, Field(ge=1, le=1000)] = 5.0
    """Of a conversation, on average."""
    think: Positive = 15.0
    """Seconds from an answer to the next turn, on average."""
    system: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Tokens with which every prompt of an application begins."""
    groups: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many applications; the second has half as many users as the first, the third a third, and so on."""
    most: Tokens = 8000
    """Tokens of a prompt; a conversation that would grow longer is over."""
    named: Literal["conversation", "application", "nothing"] = "conversation"
    """What requests name as their session, if anything; an application's have nothing in common but its prompt."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.system >= self.most:
            raise fault(f"has a system prompt of {self.system} tokens and prompts of {self.most} at most", "raise most")
        return self


class Trace(Shape):
    """Requests as they were recorded: CSV with TIMESTAMP, ContextTokens, GeneratedTokens, beside the fleet file."""

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    speed: Positive | None = None
    """How many times as fast; left out, as fast as makes the load."""


class Traffic(Shape):
    """Poisson arrivals of chats unless a trace is given. One of `loads`, `rate` and a trace's speed."""

    loads: Annotated[tuple[Annotated[float, Field(gt=0, le=5)], ...], Field(strict=False, max_length=16)] = ()
    """Arrivals over what the fleet serves at its worst moment, without what is dead or others' then; each is run.

    Of sessions: over what it serves while it has to read every prompt whole.
    """
    rate: Positive | None = None
    prompt: Lengths = Lengths(median=300, sigma=1.0, least=8, most=8000)
    answer: Lengths = Lengths(median=150, sigma=0.9, least=4, most=2000)
    burst: Burst | None = None
    several: Several | None = None
    sessions: Sessions | None = None
    trace: Trace | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        told = bool(self.loads) + (self.rate is not None) + (self.trace is not None and self.trace.speed is not None)
        if told != 1:
            what = "says twice how much comes" if told else "does not say how much comes"
            raise fault(what, "give loads: [0.8], or rate: 20, or a trace with a speed, and one of them alone")
        other = "a trace" if self.trace else "a burst" if self.burst else None
        if self.sessions and other:
            raise fault(f"has sessions and {other}", "leave one of them out")
        return self


def _check_patch(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {"slow", "fail", "freeze", "lie", "cpu", "memory", "queue", "flood", "down"}
    for name in patch:
        if name not in known:
            close = suggest(name, known)
            remedy = f"did you mean {close}?" if close else f"known here: {list_words(sorted(known))}"
            raise fault(f"{name} is nothing that can be done to a node", remedy)
    try:
        patch_control(Control(), Control(), patch)
    except ControlError as error:
        raise fault(str(error), "change the value") from None
    return dict(patch)


class Event(Shape):
    """Something that happens to nodes at a moment, for a while or until the end."""

    at: Moment
    until: Moment | None = None
    nodes: Annotated[tuple[ObjectName, ...], Field(strict=False, min_length=1, max_length=1000)]
    does: Annotated[Mapping[str, Any], Field(min_length=1, max_length=16), AfterValidator(_check_patch)]
    """As a simulated node's /sim/control takes it: slow: 5, flood: 3, down: true, lie: idle, fail: 503, cpu: 0.97."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.until is not None and self.until <= self.at:
            raise fault(f"ends at {self.until:g} s, before it begins at {self.at:g} s", "give a later until")
        return self


class Metrics(Shape):
    """How old nodes' numbers are when they are used, at least, and of how many Envoys the counts are known."""

    age: Annotated[float, Field(ge=1, le=120)] = 3.0
    envoys_seen: Annotated[int, Field(ge=0, le=8)] | None = None
    pages: Annotated[float, Field(ge=0.05, le=10)] = 0.25
    """Seconds between two looks of `precise` at all pages, in virtual time."""
    peers: bool = True
    """Whether the data planes of `precise` tell each other what they sent, in virtual time."""


class Bound(Shape):
    """What must hold of our profiles, or of the choice per request. `promise` is a name; of the rest one is given."""

    promise: Annotated[str, Field(min_length=1, max_length=40)]
    profiles: Annotated[tuple[Profile | Literal["precise"], ...], Field(strict=False, min_length=1)] = OURS
    """What it is about; `precise` is the choice for each request, over the weights of `llm`."""
    loads: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """At which loads; left out, at all."""
    at_most: Positive | None = None
    """The p99 time to first token is at most so many times that of each of `of`."""
    of: Annotated[tuple[Mechanism, ...], Field(strict=False, min_length=1)] = ("LEAST_REQUEST",)
    p50: Positive | None = None
    """The median time to first token is at most so many seconds."""
    p99: Positive | None = None
    """The p99 time to first token is at most so many seconds."""
    cached: Annotated[float, Field(ge=0, le=1)] | None = None
    """At least this share of the prompts' tokens need not be read anew."""
    pushes: Annotated[int, Field(ge=0)] | None = None
    """At most so many changes of weights in 400 s."""
    answered: Annotated[float, Field(ge=0, le=1)] | None = None
    """At least this share of the requests is answered."""
    told_by: Moment | None = None
    """A capacity that is wrong is named by then."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        told = (self.at_most, self.p50, self.p99, self.cached, self.pushes, self.answered, self.told_by)
        if told == (None,) * len(told):
            raise fault("bounds nothing", "add atMost, p50, p99, cached, pushes, answered or toldBy")
        return self


class Fleet(Shape):
    """The whole file."""

    description: Annotated[str, Field(max_length=400)] = ""
    nodes: Annotated[tuple[Node, ...], Field(strict=False, min_length=1, max_length=100)]
    traffic: Traffic
    events: Annotated[tuple[Event, ...], Field(strict=False, max_length=100)] = ()
    metrics: Metrics = Metrics()
    envoys: Annotated[int, Field(ge=1, le=8)] = 2
    duration: Annotated[float, Field(ge=20, le=86_400)] = 400.0
    count_from: Moment = 60.0
    """Requests before it are not counted."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1, max_length=100)] = (
        1,
        2,
        3,
    )
    bounds: Annotated[tuple[Bound, ...], Field(strict=False, max_length=50)] = ()

    @property
    def servers(self) -> tuple[Node, ...]:
        """Every single node, by its own name."""
        return tuple(
            node if node.count == 1 else node.model_copy(update={"name": f"{node.name}-{number}", "count": 1})
            for node in self.nodes
            for number in range(1, node.count + 1)
        )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        names = [node.name for node in self.servers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise fault(f"two nodes are named {twice}", "name every node once")
        for event in self.events:
            _check_event(event, names, self.duration)
        if self.count_from > self.duration - 10:
            raise fault(
                f"counts from {self.count_from:g} s of {self.duration:g} s",
                "make duration longer, or countFrom earlier",
            )
        if all(node.joins > 0 for node in self.nodes):
            raise fault("no node is there at the start", "give one without joins")
        return self


def _check_event(event: Event, names: list[str], duration: float) -> None:
    for name in event.nodes:
        if name not in names:
            close = suggest(name, names)
            remedy = f"did you mean {close}?" if close else f"there are {list_words(names)}"
            raise fault(f"an event at {event.at:g} s names the node {name}, which is not there", remedy)
    if event.at >= duration:
        raise fault(f"an event at {event.at:g} s is after the end at {duration:g} s", "make duration longer")
