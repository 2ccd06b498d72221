"""Values of flags, read alike by every command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

MOST_PORT = 65_535
# Without brackets, too: Kubernetes puts a pod's address before :PORT as it is, of IPv6 as well.
_ADDRESS = re.compile(
    r"(?:\[([0-9a-fA-F:.]+)\]|(\d{1,3}(?:\.\d{1,3}){3})|([0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})):(\d{1,5})"
)
_TARGET = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]{1,253})):(\d{1,5})")


def number(least: int, most: int) -> Callable[[str], int]:
    """What reads a whole number within these bounds, for `type=`. That raises ArgumentTypeError with the bounds."""

    def read(text: str) -> int:
        plain = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not plain or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text[:80]!r}: give a number of {least} to {most}")
        return int(text)

    return read


#: A port to listen on; 0 is any that is free.
port = number(0, MOST_PORT)


def address(text: str) -> tuple[str, int]:
    """An address of this machine to listen on, and a port. Raises ArgumentTypeError."""
    return _read(text, _ADDRESS, "address like 127.0.0.1:9902 or [::1]:9902")


def target(text: str) -> tuple[str, int]:
    """A name or an address elsewhere, and a port. Raises ArgumentTypeError."""
    return _read(text, _TARGET, "name and port like peers.example:9940")


def _read(text: str, form: re.Pattern[str], like: str) -> tuple[str, int]:
    found = form.fullmatch(text)
    if found is None or int(found[found.re.groups]) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no {like}")
    *hosts, port = found.groups()
    return next(host for host in hosts if host), int(port)
