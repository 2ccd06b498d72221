"""`weighbridge crds`: prints the CRDs, or writes them to a directory, one file for each kind; or their reference."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from weighbridge_api.crd import KINDS, build_crd, print_yaml
from weighbridge_api.reference import write_reference


def main(argv: Sequence[str]) -> int:
    """0, or 1 with a line on stderr where the directory cannot be written."""
    parser = argparse.ArgumentParser(
        prog="weighbridge crds", description="Print the CRDs, for example into kubectl apply --server-side -f -"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--output", metavar="DIR", type=Path, help="write one file for each kind into DIR instead")
    way.add_argument("--reference", action="store_true", help="print every field as a Markdown page instead")
    given = parser.parse_args(argv)
    directory: Path | None = given.output
    if given.reference:
        sys.stdout.write(write_reference())
        return 0
    printed = {kind.file_name: print_yaml(build_crd(kind)) for kind in KINDS}
    if directory is None:
        sys.stdout.write("".join(f"---\n{text}" for text in printed.values()))
        return 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in printed.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"weighbridge crds: cannot write to {directory}: {error.strerror}\n")
        return 1
    return 0
