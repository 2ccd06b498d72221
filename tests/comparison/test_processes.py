"""`weighbridge compare` works in processes of its own, whatever another library has left in this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FLEET = Path(__file__).parents[2] / "bench" / "fleets" / "uniform.yaml"
#: A gRPC channel that the garbage collector finds: in a forked process it waits for a thread that is not there.
LEFT = """
import asyncio, gc, os, sys
if __name__ == "__main__":
    import grpc
    from weighbridge_api.console import main

    async def leave():
        channel = grpc.aio.insecure_channel("127.0.0.1:1")
        try:
            await asyncio.wait_for(channel.unary_unary("/a/b")(b""), 1)
        except Exception:
            pass
        box = [channel]
        box.append(box)

    gc.disable()
    asyncio.run(leave())
    os.register_at_fork(after_in_child=gc.collect)
    sys.exit(main(sys.argv[1:]))
"""


def test_what_a_library_left_here_holds_no_process_up(tmp_path: Path) -> None:
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    few = ("--load", "0.5", "--seconds", "40", "--seeds", "1", "--jobs", "1", "--mechanism", "llm", "LEAST_REQUEST")
    command = (sys.executable, str(script), "compare", "-f", str(FLEET), *few)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ours: llm" in ran.stdout, ran.stderr
