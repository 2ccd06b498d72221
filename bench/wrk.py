"""Runs wrk, the compiled load generator, and tells what it and a process's CPU clock saw."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
wrk.method = "POST"
wrk.body = %s
wrk.headers["content-type"] = "application/json"
%s
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('\\n{"requests":%%d,"microseconds":%%d,"failed":%%d,"p50":%%d,"p99":%%d}\\n',
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: requests a second, percentiles in microseconds, and the server's CPU microseconds per request."""

    rate: float
    p50: float
    p99: float
    cpu: float


def require_wrk() -> str:
    """The path of wrk. Ends the program with status 2, saying how to get it, where there is none."""
    found = shutil.which("wrk")
    if found is None:
        print("This benchmark needs the load generator wrk: apt-get install wrk (Debian, Ubuntu), brew install wrk.")
        sys.exit(2)
    return found


def write_script(path: Path, body: bytes, key: str | None = None) -> Path:
    """A script that posts this body, with this API key."""
    header = "" if key is None else f'wrk.headers["authorization"] = "Bearer {key}"'
    path.write_text(_SCRIPT % ('"' + "".join(f"\\{byte:03}" for byte in body) + '"', header))
    return path


def read_cpu(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(process: int, cpus: Iterable[int]) -> None:
    """Keeps every thread of a process on these CPUs."""
    wanted = set(cpus)
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), wanted)


async def run_wrk(url: str, script: Path, connections: int, seconds: float, server: int) -> Run:
    """One run against `server` (a process id). Raises RuntimeError when a single request fails."""
    whole = max(1, round(seconds))
    command = [require_wrk(), "-t1", f"-c{connections}", f"-d{whole}s", "-s", str(script), url]
    before = read_cpu(server)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    used = read_cpu(server) - before
    told = json.loads(out.decode().rstrip().rpartition("\n")[2])
    if told["failed"] or not told["requests"]:
        raise RuntimeError(f"{told['failed']} of {told['requests']} requests to {url} failed")
    rate = told["requests"] / told["microseconds"] * 1e6
    return Run(rate, told["p50"], told["p99"], used / told["requests"] * 1e6)
