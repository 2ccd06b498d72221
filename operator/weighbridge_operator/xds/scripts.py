"""The Lua scripts: each made of the files beside this module, after the table of paths where it needs that."""

from __future__ import annotations

from importlib import resources

from weighbridge_operator.xds.paths import write_suffixes, write_tables

MOST_HOPS = 5  # gateways that a request may have come through


def write_entrance(logged: bool = False) -> str:
    """What every request passes before its route is known. `logged`: it tells the request log what was asked for."""
    told = f"local MOST_HOPS = {MOST_HOPS}\n" + ("LOGGED = true\n" if logged else "")
    files = ("json.lua", "form.lua", "refusal.lua", "entrance.lua")
    return told + write_tables() + "".join(_read(name) for name in files)


def write_usual(word: str, logged: bool = False) -> str:
    """What usual requests of a kind, told by its word, pass instead."""
    return f'local USUAL = "{word}"\n' + write_entrance(logged) + _read("usual.lua")


def write_unknown() -> str:
    """What the answer about a model that nobody serves passes, and no other."""
    return _read("unknown.lua")


def write_adapting() -> str:
    """What a request passes on its way to a node that wants it changed."""
    return write_suffixes() + _read("adapt.lua")


def write_blocks() -> str:
    """What a request passes whose route chooses a node for each: it writes the headers that say what it begins with.

    For `source_codes` of a filter of its own, named by the routes, so that all of them share one state a worker.
    """
    return _read("blocks.lua")


def write_tokens() -> str:
    """What reads an answer's tokens as it passes."""
    return _read("tokens.lua")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
