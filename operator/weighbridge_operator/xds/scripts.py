"""The two Lua scripts: each made of the files beside this module, after the table of paths."""

from __future__ import annotations

from importlib import resources

from weighbridge_operator.xds.paths import write_suffixes, write_tables


def write_entrance(logged: bool = False) -> str:
    """What every request passes before its route is known. `logged`: it tells the request log what was asked for."""
    told = "LOGGED = true\n" if logged else ""
    return (
        told + write_tables() + "".join(_read(name) for name in ("json.lua", "form.lua", "refusal.lua", "entrance.lua"))
    )


def write_adapting() -> str:
    """What a request passes on its way to a node that wants it changed."""
    return write_suffixes() + _read("adapt.lua")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
