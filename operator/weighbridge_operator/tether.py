"""Becomes another program that the kernel ends when the process that started it dies, however it dies.

Run by path, outside of the package and without site-packages, since it stands before every start:
`python -I -S tether.py PARENT PROGRAM [ARGUMENT...]`. The kernel watches the parent's *thread* (prctl(2),
PR_SET_PDEATHSIG), so start it from one that lives as long as the parent. Only Linux has this.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127


def main() -> None:
    """Tie, and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(f"the process {parent} that asked for {program} is gone")
    raise_open_files()
    # What it writes is for us and our group: a log of requests names callers.
    os.umask(0o027)
    try:
        os.execv(program, sys.argv[2:])  # noqa: S606  there is no shell to want
    except OSError as error:
        sys.stderr.write(f"cannot run {program}: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


def raise_open_files() -> None:
    """A connection is an open file, and shells allow few of them: take all that may be had."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        return


if __name__ == "__main__":
    main()
