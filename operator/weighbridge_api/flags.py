"""Values of flags, read alike by every command."""

from __future__ import annotations

import argparse
from collections.abc import Callable

MOST_PORT = 65_535


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
