"""What data planes tell of their choices, for people: the node that was named, or why none, and all that was judged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from weighbridge_operator.views import words
from weighbridge_operator.views.lines import Column, Line, Span, clean, clip, tabulate, wrap

COLUMNS: Final = (
    Column("", most=1),
    Column("NODE", most=48),
    Column("LOAD", right=True),
    Column("", most=1),
    Column("FILL²", right=True),
    Column("", most=1),
    Column("UNREAD", right=True),
    Column("", most=1),
    Column("SAVED", right=True),
    Column("FOUND", right=True),
    Column("JUDGED BY"),
)
SILENCE: Final = MappingProxyType(
    {
        "unknown": "the data plane was told no node of this route yet",
        "stale": "what Envoy counts was not read for 1.5 s",
        "few": "fewer than half of the nodes, or than two, have a sample that is fresh and believed, "
        "or had for less than 10 s",
        "none": "every node is out of service, or is left out because it fails",
        "policy": "the route told no policy that can be read",
        "error": "of a fault of the data plane's; its log says where",
    }
)
KNOWN: Final = MappingProxyType(
    {
        "all": "known of every Envoy's requests",
        "own": "known of this data plane's requests alone",
        "home": "known of this data plane's requests, and drawn home",
    }
)


@dataclass(frozen=True)
class Candidate:
    """A node that was judged: its J and what it is made of, in shares of a full node and seconds."""

    address: str
    load: float
    fill: float
    backlog: float
    saved: float
    hit: float  # tokens
    by: Literal["page", "count"]
    home: bool = False  # whether `hit` is what the conversation's home counts as having read
    node: str | None = None


@dataclass(frozen=True)
class ToldChoice:
    """One choice, at a Unix time. `blocks` are hashes of the body's beginning, `session` whether it is of a talk.

    `known`: whose memory said what nodes have read of it; None where there is nothing to remember.
    """

    at: float
    request: str
    node: str | None
    address: str | None
    silence: str | None
    size: int | None
    blocks: int
    session: bool
    candidates: tuple[Candidate, ...] = Field(max_length=100_000)
    known: Literal["all", "own", "home"] | None = None


@dataclass(frozen=True)
class Told:
    """What one data plane answers. It keeps the last `most` choices and has `kept`, from `since` on."""

    host: str
    process: int
    socket: str
    kept: int
    most: int
    since: float | None
    choices: tuple[ToldChoice, ...]


def tell_choices(told: Sequence[tuple[str, Told]], width: int | None) -> list[Line]:
    """Each choice with its candidates, those of one data plane together. `told`: where it was asked, what it told."""
    lines: list[Line] = []
    for place, each in told:
        who = f"data plane at {place}: host {each.host}, process {each.process}, socket {each.socket}"
        lines += [(), *_wrap(who, width, 0, Span("", "head"))]
        for choice in each.choices:
            lines += [(), *_tell_choice(choice, width)]
    return lines[1:]


def tell_absence(told: Sequence[tuple[str, Told]], request: str | None) -> list[str]:
    """Why nothing was found, a line each: what is kept, what else it may be, and how more is kept."""
    lines = []
    for place, each in told:
        if each.since is None:
            kept = f"has made no choice yet (it keeps the last {each.most:,})"
        else:
            kept = f"keeps the last {each.most:,} choices and has {each.kept:,}, from {_moment(each.since)} on"
        lines.append(f"the data plane at {clean(place)} (host {clean(each.host)}, process {each.process}) {kept}")
    if request is None:
        return lines
    return [
        f"no choice is kept for the request {clean(request)!r}",
        *lines,
        (
            "it was made before that, or through another Envoy; or no choice was asked for: its policy has no "
            "`balance.precise`, or the choice came after the 20 ms that Envoy waits. More are kept with "
            "--keep-choices N of `weighbridge dataplane` and `up` (chart: dataplane.keepChoices)"
        ),
    ]


def _tell_choice(choice: ToldChoice, width: int | None) -> list[Line]:
    head: Line = (Span("request ", "dim"), Span(clean(choice.request) or "without an id", "bold"))
    lines: list[Line] = [(*head, Span(f"  {_moment(choice.at)}", "dim"))]
    if choice.node is not None:
        named = f"named {clean(choice.node)} at {clean(choice.address or words.UNKNOWN)}: {_tell_place(choice)}"
        lines += _wrap(f"{words.GOOD} {named}", width, 2, Span("", "good"))
    else:
        why = SILENCE.get(choice.silence or "none", clean(choice.silence or ""))
        lines += _wrap(f"{words.WARN} silent, so that the weights decided: {why}", width, 2, Span("", "warn"))
    lines += _wrap(_tell_request(choice), width, 2, Span("", "dim"))
    if choice.candidates:
        ordered = sorted(choice.candidates, key=lambda each: each.load)
        table = tabulate(COLUMNS, [_row(each, choice.address) for each in ordered], indent=2, gap=1)
        lines += table if width is None else [clip(line, width) for line in table]
    return lines


def _tell_place(choice: ToldChoice) -> str:
    """Where the named one stands among the candidates."""
    number = len(choice.candidates)
    if number == 1:
        return "the only candidate"
    least = min(choice.candidates, key=lambda each: each.load, default=None)
    own = next((each for each in choice.candidates if each.address == choice.address), None)
    as_good = least is not None and own is not None and own.load > least.load
    return f"as good as the least load of {number}" if as_good else f"the least load of {number}"


def _tell_request(choice: ToldChoice) -> str:
    size = "size not told" if choice.size is None else f"{choice.size:,} bytes"
    parts = [size, f"{choice.blocks} blocks of its beginning" if choice.blocks else ""]
    parts.append("of a conversation" if choice.session else "")
    parts.append(KNOWN[choice.known] if choice.known else "")
    return ", ".join(part for part in parts if part)


def _row(each: Candidate, named: str | None) -> tuple[Span, ...]:
    chosen = each.address == named
    name = f"{clean(each.node)} {clean(each.address)}" if each.node else clean(each.address)
    return (
        Span("→" if chosen else "", "good"),
        Span(name, "bold" if chosen else "plain"),
        Span(f"{each.load:.3f}", "bold" if chosen else "plain"),
        Span("=", "dim"),
        Span(f"{each.fill**2:.3f}"),
        Span("+", "dim"),
        Span(f"{each.backlog:.3f} s"),
        Span("-", "dim"),
        Span(f"{each.saved:.3f} s"),
        Span(f"{'home, ' if each.home else ''}{each.hit:,.0f} tokens"),
        Span("its page" if each.by == "page" else "our own counts", "plain" if each.by == "page" else "warn"),
    )


def _wrap(text: str, width: int | None, indent: int, look: Span) -> list[Line]:
    parts = wrap(clean(text), max(20, width - indent)) if width else (clean(text),)
    return [(Span(" " * indent + part, look.look),) for part in parts]


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
