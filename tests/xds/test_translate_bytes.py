"""Every process makes the same bytes of the same objects, so that a restarted operator sends no listener again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRAM = """
import sys
from pathlib import Path
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.files import settle
from weighbridge_operator.sources.listing import FileText
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.translate import translate
for path in sys.argv[1:]:
    desired = settle([FileText("in.yaml", Path(path).read_bytes(), private=True)], {}).desired
    snapshot = translate(resolve(desired, Scope()).gateway, {}, desired.secrets, Entrance(), b"salt")
    print(sorted(snapshot.versions.items()))
"""


def test_versions_are_the_same_in_every_process() -> None:
    # The order of maps within a process is drawn when it starts: four agree by chance once in many runs.
    cases = [str(path) for path in sorted(GOLDEN.glob("*/in.yaml"))]
    assert cases
    command = [sys.executable, "-c", PROGRAM, *cases]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = {process.communicate(timeout=60)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(told) == 1
    assert len(told.pop().splitlines()) == len(cases)
