"""What the command line settles, once; everything below gets it passed down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Output = Literal["auto", "plain", "json"]
GATEWAY = "weighbridge"  # node.cluster of the Envoys that belong here


@dataclass(frozen=True, slots=True)
class Settings:
    """Of `up`, `demo` and `operator`. Addresses are (host, port); port 0 takes a free one."""

    paths: Sequence[Path]
    entrance: tuple[str, int] = ("127.0.0.1", 8080)
    admin: tuple[str, int] = ("127.0.0.1", 8081)
    xds: tuple[str, int] = ("127.0.0.1", 0)
    namespace: str = "default"
    state: Path | None = None
    debug_headers: bool = True
    concurrency: int = 2
    envoy: str | None = None  # path of the binary; None looks for it
    output: Output = "auto"
    live: bool = False  # standard output is a terminal that can be drawn on
    colour: bool = True
    hints: Sequence[str] = ()
