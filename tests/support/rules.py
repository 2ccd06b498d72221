"""The rules that Envoy's messages carry (protoc-gen-validate), as far as a message itself goes: what is packed in an
`Any` Envoy judges apart, when it unpacks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from validate import validate_pb2

#: The rules that are known here, by the kind of value; `find_broken` refuses any other, so that none is passed over.
_KNOWN = {
    "string": {
        "min_len",
        "max_len",
        "max_bytes",
        "well_known_regex",
        "strict",
        "ignore_empty",
        "prefix",
        "suffix",
        "pattern",
    },
    "bytes": {"min_len", "max_len"},
    "repeated": {"min_items", "max_items", "items", "unique"},
    "map": {"min_pairs", "keys"},
    "enum": {"defined_only"},
}


def find_broken(message: Message, path: str = "") -> Iterator[str]:
    """Where the message, or one in it, breaks a rule of its own."""
    kind: Any = message.DESCRIPTOR
    for choice in kind.oneofs:
        if choice.GetOptions().Extensions[validate_pb2.required] and message.WhichOneof(choice.name) is None:
            yield f"{path}{choice.name} is required"
    for field in kind.fields:
        place = f"{path}{field.name}"
        rules = field.GetOptions().Extensions[validate_pb2.rules]
        given = field.is_repeated or not field.has_presence or message.HasField(field.name)
        required = rules.message.required or rules.any.required or rules.duration.required
        if required and not given:
            yield f"{place} is required"
        if given:
            yield from _judge(getattr(message, field.name), field, rules, place)


def _judge(value: Any, field: Any, rules: Any, place: str) -> Iterator[str]:
    if field.message_type and field.message_type.GetOptions().map_entry:
        if len(value) < rules.map.min_pairs:
            yield f"{place} has less than {rules.map.min_pairs} entries"
        for key in value:
            yield from _judge_value(key, rules.map.keys, f"{place}[{key!r}]")
        inner = [(f"{place}[{key!r}]", value[key]) for key in value]
    elif field.is_repeated:
        most = rules.repeated.max_items or len(value)
        if not rules.repeated.min_items <= len(value) <= most:
            yield f"{place} has {len(value)} items"
        for item in value:
            yield from _judge_value(item, rules.repeated.items, place)
        inner = [(f"{place}[{number}]", item) for number, item in enumerate(value)]
    else:
        yield from _judge_value(value, rules, place)
        inner = [(place, value)]
    for where, item in inner:
        if isinstance(item, Message):
            yield from find_broken(item, f"{where}.")


def _judge_value(value: Any, rules: Any, place: str) -> Iterator[str]:
    kind = rules.WhichOneof("type")
    if kind is None or isinstance(value, Message):
        return
    told = getattr(rules, kind)
    unknown = {rule.name for rule, _ in told.ListFields()} - _KNOWN.get(kind, set())
    assert not unknown, f"{place}: nobody has said here what {kind} {unknown} means"
    if kind in ("string", "bytes") and not (kind == "string" and told.ignore_empty and not value):
        yield from _judge_length(value, told, place)
    if kind == "string":
        yield from _judge_text(value, told, place)


def _judge_length(value: str | bytes, told: Any, place: str) -> Iterator[str]:
    if len(value) < told.min_len:
        yield f"{place} is shorter than {told.min_len}"
    if told.max_len and len(value) > told.max_len:
        yield f"{place} is longer than {told.max_len}"


def _judge_text(value: str, told: Any, place: str) -> Iterator[str]:
    if told.max_bytes and len(value.encode()) > told.max_bytes:
        yield f"{place} is longer than {told.max_bytes} bytes"
    if not (value.startswith(told.prefix) and value.endswith(told.suffix)):
        yield f"{place} is not {told.prefix}...{told.suffix}"
    assert not told.pattern, f"{place}: nobody has said here what a pattern means"
    if told.well_known_regex and any(letter in value for letter in "\0\r\n"):
        yield f"{place} has a letter that no header may have"
