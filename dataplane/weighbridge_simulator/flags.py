"""How a node is written on the command line: `name=a,port=9001,size=4,model=m`. Pure.

Each key is a flag too; flags give what every node has that does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from weighbridge_simulator.control import Control, ControlError, patch_control
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.pages import EngineKind


class FlagError(ValueError):
    """A node that makes no sense."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key: how its text is read, and what it means."""

    read: Callable[[str], object]
    meaning: str


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FlagError(f"takes a whole number, not {text!r}") from None


def _port(text: str) -> int:
    port = _whole(text)
    if not 0 <= port <= 65535:
        raise FlagError(f"takes a port from 0 to 65535, not {port}")
    return port


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FlagError(f"takes a number, not {text!r}") from None


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise FlagError(f"takes true or false, not {text!r}")
    return text == "true"


def _engine(text: str) -> str:
    if text not in get_args(EngineKind):
        raise FlagError(f"takes {', '.join(get_args(EngineKind))}, not {text!r}")
    return text


def _fail(text: str) -> object:
    return int(text) if text.isdigit() else text


def _model(text: str) -> tuple[str, str]:
    own, _, served = text.partition(":")
    if not own:
        raise FlagError("takes NAME or NAME:SERVED-AS")
    return served or own, own


_ENGINES = ", ".join(get_args(EngineKind))
KEYS: Mapping[str, Key] = {
    "name": Key(str, "its name, in the header x-sim-node"),
    "host": Key(str, "address to listen on"),
    "port": Key(_port, "0: the system chooses"),
    "engine": Key(
        _engine,
        f"whose metrics it prints: {_ENGINES}; custom has names of its own, plain none",
    ),
    "model": Key(_model, "NAME or NAME:SERVED-AS; repeatable"),
    "size": Key(_number, "room and compute, in unit nodes of 5.9 chats a second"),
    "slow": Key(_number, "times slower"),
    "fail": Key(_fail, "a status from 400 to 599, reset or die"),
    "freeze": Key(str, "off, engine or all"),
    "lie": Key(str, "off, idle, frozen, nan, half or absent"),
    "cpu": Key(_number, "CPU use that it prints, 0..1"),
    "memory": Key(_number, "memory use that it prints, 0..1"),
    "gpu": Key(_number, "GPU use that it prints, 0..1"),
    "gpu_memory": Key(_number, "GPU memory use that it prints, 0..1"),
    "queue": Key(_number, "queue that it prints"),
    "flood": Key(_number, "requests a second from others"),
    "base": Key(str, "base path"),
    "answer": Key(_whole, "tokens of an answer, where the client does not say"),
    "longest": Key(_whole, "most tokens of an answer"),
    "every": Key(_whole, "tokens per chunk of a stream; 0: the first and the rest"),
    "zero": Key(_switch, "true: answer at once, without an engine"),
    "machine": Key(_switch, "true: CPU, memory and GPU on /metrics too"),
    "machine_port": Key(_port, "a port like node_exporter's"),
    "gpu_port": Key(_port, "a port like dcgm-exporter's"),
    "key": Key(str, "the API key it insists on"),
    "insisted_host": Key(str, "the Host it insists on"),
    "tls_cert": Key(str, "PEM file; it then speaks TLS only"),
    "tls_key": Key(str, "PEM file"),
    "seed": Key(_whole, "of its randomness"),
    "step": Key(_number, "seconds of an empty step of its engine"),
    "per_sequence": Key(_number, "seconds that each sequence adds to a step"),
    "prefill_rate": Key(_number, "prompt tokens it reads a second"),
    "chunk": Key(_whole, "prompt tokens it reads in a step"),
    "sequences": Key(_whole, "sequences at once, whatever its size"),
    "kv_tokens": Key(_whole, "tokens of KV, whatever its size"),
    "prefix_caching": Key(_switch, "false: read every prompt whole, whatever was read before"),
}
#: Keys of the engine, as `EngineSpec` calls them.
_COMPUTE = {"step": "a", "per_sequence": "b"} | {
    name: name for name in ("prefill_rate", "chunk", "sequences", "kv_tokens", "prefix_caching")
}


def read_value(name: str, text: str) -> object:
    """The value of a key. FlagError says what it takes."""
    try:
        return KEYS[name].read(text)
    except FlagError as error:
        raise FlagError(f"{name}: {error}") from None


def read_pairs(text: str) -> list[tuple[str, object]]:
    """The pairs of `key=value,key=value`. FlagError names what is wrong."""
    pairs = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in KEYS:
            raise FlagError(f"--node {text}: {part!r} is not KEY=VALUE with a KEY of {', '.join(KEYS)}")
        pairs.append((name, read_value(name, value)))
    return pairs


def build_spec(pairs: Iterable[tuple[str, object]]) -> NodeSpec:
    """A node from its pairs; of a key that comes twice the last counts, but models add up. FlagError names the node."""
    known = {field.name for field in fields(NodeSpec)}
    options: dict[str, Any] = {}
    patch: dict[str, object] = {}
    models: list[tuple[str, str]] = []
    compute: dict[str, Any] = {}
    for name, value in pairs:
        if name == "model":
            models.append(value)  # type: ignore[arg-type]
        elif name in _COMPUTE:
            compute[_COMPUTE[name]] = value
        elif name in known:
            options[name] = value
        else:
            patch[name] = value
    if models:
        options["models"] = tuple(models)
    try:
        options["compute"] = tuple(compute.items())
        options["control"] = patch_control(Control(), Control(), patch)
        return NodeSpec(**options)
    except ControlError as error:
        raise FlagError(f"node {options.get('name', 'node')}: {error}") from None
    except ValueError as error:
        raise FlagError(str(error)) from None
