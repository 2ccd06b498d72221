"""What `weighbridge status` and `weighbridge explain` print for people: plain lines, no terminal needed."""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge_operator.report import (
    EndpointReport,
    EnvoyReport,
    KindReport,
    ObjectReport,
    PoolReport,
    Report,
    SignalReport,
)
from weighbridge_operator.views import words
from weighbridge_operator.views.groups import POLICY, Group, Row, group, title
from weighbridge_operator.views.lines import Column, Line, Look, Span, clean, clip, tabulate, width_of, wrap

COLUMNS = (
    Column("", most=1),
    Column("NODE", most=40),
    Column("READY", most=24),
    Column("SCORE", right=True),
    Column("WEIGHT", right=True),
    Column("SHARE", right=True),
    Column("QUEUE", right=True),
    Column("RUN", right=True),
    Column("KV", right=True),
    Column("AGE", right=True),
)
SIGNALS = (
    Column("SIGNAL"),
    Column("MEASURED", right=True),
    Column("", most=1),
    Column("SHARE", right=True),
    Column("", most=1),
    Column("OF", right=True),
    Column("", most=1),
    Column("POINTS", right=True),
    Column("FROM", most=44),
)
REASON_WIDTH = 48  # cells that a reason needs beside the numbers; below it has lines of its own


def tell_status(report: Report, width: int | None) -> list[Line]:
    """The whole report in at most `width` cells; None does not cut."""
    return [
        *_head(report, width),
        *_listing("PROBLEMS", words.BAD, "bad", report.problems, width),
        *_listing("NOTICES", words.WARN, "warn", words.notices(report), width),
        *_nodes(report, width),
        *_policies(report, width),
        *_envoys(report, width),
    ]


def tell_reasons(report: Report, nodes: Sequence[ObjectReport], width: int | None) -> list[Line]:
    """Each node's weight in a sentence and its score as a table with the arithmetic."""
    pools = {pool.name: pool for pool in report.pools}
    result: list[Line] = []
    for node in nodes:
        result += [(), *_node_title(node, width)]
        if not node.endpoints:
            result += _paragraph(words.reason_of(node, None), width, 2)
        for endpoint in node.endpoints:
            result += _endpoint(node, endpoint, pools.get(endpoint.pool), width)
    return result[1:]


def _head(report: Report, width: int | None) -> list[Line]:
    what = f"configuration {words.version(report.version)}" if report.version else "no configuration yet"
    rest = f"  {what}, up {words.seconds(report.uptime)}"
    return _beside((Span("weighbridge ", "bold"), Span(clean(report.entrance), "head")), (Span(rest),), width)


def _listing(title: str, sign: str, look: Look, texts: Sequence[str], width: int | None) -> list[Line]:
    if not texts:
        return []
    lines: list[Line] = [(), (Span(f"{title} ({len(texts)})", "head"),)]
    for text in texts:
        lines += _marked(Span(sign, look), text, width, look)
    return lines


def _nodes(report: Report, width: int | None) -> list[Line]:
    lines: list[Line] = []
    for found in group(report):
        lines += [(), title(found) if width is None else clip(title(found), width), *_rows(found, width)]
    return lines or [(), (Span("no ModelNode yet", "warn"),)]


def _rows(found: Group, width: int | None) -> list[Line]:
    table = tabulate(COLUMNS, [_row(row) for row in found.rows])
    used = max(width_of(line) for line in table)
    if width is None or width - used - 2 >= REASON_WIDTH:
        lines: list[Line] = [(*table[0], Span("  REASON", "head"))]
        for line, row in zip(table[1:], found.rows, strict=True):
            reason = words.reason_of(row.node, row.endpoint)
            parts = wrap(reason, width - used - 2) if width else (reason,)
            lines += [(*line, Span(f"  {parts[0] if parts else ''}"))]
            lines += [(Span(" " * (used + 2) + part),) for part in parts[1:]]
        return lines
    lines = [clip(table[0], width)]
    for line, row in zip(table[1:], found.rows, strict=True):
        lines += [clip(line, width), *_paragraph(words.reason_of(row.node, row.endpoint), width, 3, "dim")]
    return lines


def _row(row: Row) -> tuple[Span, ...]:
    e = row.endpoint
    sign = words.state_of(row.node, e)
    start = (sign, Span(row.label, "bold"), words.ready(row.node))
    if e is None:
        return (*start, *(Span(words.UNKNOWN, "dim"),) * 7)
    return (
        *start,
        Span(words.score(e.score), words.look_of_score(e.score)),
        Span(f"{e.weight} {words.percent(e.weight_share)}"),
        Span(words.percent(e.request_share)),
        Span(words.count(e.waiting)),
        Span(words.count(e.running)),
        Span(words.share(e.kv)),
        Span(words.seconds(e.age), "plain" if e.age is not None else "warn"),
    )


def _policies(report: Report, width: int | None) -> list[Line]:
    policies = [o for o in report.objects if o.kind == POLICY]
    lines: list[Line] = [(), (Span("POLICIES", "head"),)] if policies else []
    for policy in policies:
        mark = words.GOOD if policy.ready else words.BAD
        name = Span(clean(f"{policy.namespace}/{policy.name}"), "bold")
        head = (Span(f"{mark} ", "good" if policy.ready else "bad"), name)
        lines += _beside(head, _conditions(policy), width)
        for condition in policy.conditions:
            if condition.status != "True" and condition.message:
                text = f"{condition.type} {condition.reason}: {condition.message}"
                lines += _paragraph(text, width, 4, "bad" if condition.status == "False" else "warn")
    return lines


def _conditions(found: ObjectReport) -> tuple[Span, ...]:
    marks = {"True": Span(words.GOOD, "good"), "False": Span(words.BAD, "bad")}
    spans: list[Span] = []
    for condition in found.conditions:
        spans += [Span("  "), marks.get(condition.status, Span(words.WARN, "warn")), Span(f" {clean(condition.type)}")]
    return tuple(spans)


def _envoys(report: Report, width: int | None) -> list[Line]:
    lines: list[Line] = [(), (Span("ENVOYS", "head"),)]
    if not report.envoys:
        return [*lines, (Span(f"{words.BAD} none is connected: nothing is forwarded by this configuration", "bad"),)]
    for envoy in report.envoys:
        lines += _envoy(envoy, width)
    return lines


def _envoy(envoy: EnvoyReport, width: int | None) -> list[Line]:
    refused = any(words.kind_state(k) == "refused" for k in envoy.kinds)
    sign = Span(words.BAD, "bad") if refused else Span(words.GOOD, "good") if envoy.current else Span("?", "warn")
    state = "REFUSES a part" if refused else "runs all it was offered" if envoy.current else "has not answered all"
    here = f"Envoy {clean(envoy.build)}, connected {words.seconds(envoy.connected)}"
    rest = f"  {here if envoy.connected is not None else 'connected to another replica'}, {state}"
    lines: list[Line] = [
        (sign, Span(" "), Span(clean(envoy.id), "bold"), Span(rest, sign.look if refused else "plain"))
    ]
    accepted = [f"{clean(k.kind)} {words.version(k.accepted)}" for k in envoy.kinds if words.is_accepted(k)]
    if accepted:
        lines += _paragraph(f"accepted: {', '.join(accepted)}", width, 4)
    for kind in envoy.kinds:
        if not words.is_accepted(kind):
            lines += _kind(kind, width)
    if envoy.error:
        lines += _paragraph(f"its statistics cannot be read: {envoy.error}", width, 4, "warn")
    return lines


def _kind(kind: KindReport, width: int | None) -> list[Line]:
    sign = Span(words.BAD, "bad") if words.kind_state(kind) == "refused" else Span(words.WARN, "warn")
    head: Line = (Span("    "), sign, Span(f" {clean(kind.kind)} {words.tell_kind(kind)}", sign.look))
    if not kind.error:
        return [head]
    parts = [part for raw in kind.error.splitlines() for part in _paragraph(raw, width, 6, "bad")]
    return [head, *parts]


def _node_title(node: ObjectReport, width: int | None) -> list[Line]:
    ready = words.ready(node)
    mark = words.GOOD if node.ready else words.BAD if ready.look == "bad" else words.WARN
    name = clean(f"{node.namespace}/{node.name}")
    head = (Span(f"{mark} ", ready.look), Span(name, "bold"))
    return _beside(head, (Span("  ready: "), ready), width)


def _endpoint(node: ObjectReport, e: EndpointReport, pool: PoolReport | None, width: int | None) -> list[Line]:
    profile = f", profile {pool.profile}" if pool else ""
    pool_name = Span(f"  pool {clean(e.pool)}", "bold")
    where = f"{e.name} at {e.address}" if e.name else e.address
    lines = _beside((pool_name,), (Span(f"  {clean(where)}{profile}", "dim"),), width)
    lines += _paragraph(words.reason_of(node, e), width, 2)
    if not e.parts:
        return [*lines, (Span("    no score: none of its signals is known", "warn"),)]
    rows = [_part(part) for part in e.parts]
    blank = Span("")
    whole = Span(f"{e.score:.1f}" if e.score is not None else words.UNKNOWN, words.look_of_score(e.score))
    rows.append((Span("score", "bold"), blank, blank, blank, blank, blank, Span("="), whole, blank))
    return lines + tabulate(SIGNALS, rows, indent=4, gap=1)


def _part(part: SignalReport) -> tuple[Span, ...]:
    weight = words.weight_of(part)
    return (
        Span(clean(part.signal)),
        Span(words.measured(part)),
        Span("→", "dim"),
        Span(f"{part.share:.2f}"),
        Span("×", "dim"),
        Span(words.UNKNOWN if weight is None else f"{weight:.3g}"),
        Span("=", "dim"),
        Span(f"{part.points:.1f}"),
        Span(words.tell_origin(part), "dim"),
    )


def _beside(head: Line, rest: Line, width: int | None) -> list[Line]:
    """Both in one line where they fit, else one below the other."""
    if width is None or width_of((*head, *rest)) <= width:
        return [(*head, *rest)]
    return [clip(head, width), clip((Span("  "), *rest), width)]


def _marked(sign: Span, text: str, width: int | None, look: Look) -> list[Line]:
    parts = wrap(clean(text), width - 2) if width else (clean(text),)
    return [(sign if not i else Span(" "), Span(f" {part}", look)) for i, part in enumerate(parts)]


def _paragraph(text: str, width: int | None, indent: int, look: Look = "plain") -> list[Line]:
    parts = wrap(clean(text), max(20, width - indent)) if width else (clean(text),)
    return [(Span(" " * indent + part, look),) for part in parts]
