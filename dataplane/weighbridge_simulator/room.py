"""A node's KV cache: room that running jobs reserve, and blocks of prompts that stay after them. Pure.

As vLLM caches prefixes: a block is `BLOCK` tokens, named by all tokens up to its end; a job that begins with blocks
which are there shares them and need not read them, but for its last token. A block that no job holds any more stays as
long as nobody needs its room; those not used for longest go first, and of one job's the last. Room held by jobs counts
once, however many share it; what nobody holds counts as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from weighbridge_simulator.service import BLOCK, EngineSpec, Job


class Room:
    """Who holds which tokens of KV. `queried` and `hit` count prompt tokens that were looked for and found."""

    __slots__ = ("_held", "_idle", "_spec", "hit", "queried", "used")

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._held: dict[int, int] = {}  # block -> how many jobs hold it
        self._idle: dict[int, None] = {}  # in the order in which they go
        self.used = self.queried = self.hit = 0

    @property
    def idle(self) -> int:
        """Tokens of blocks that nobody holds."""
        return len(self._idle) * BLOCK

    def resize(self, spec: EngineSpec) -> None:
        """Be as large as this."""
        self._spec = spec
        self._make_way()

    def fits(self, job: Job) -> bool:
        """Whether it can begin now."""
        need = job.kv
        if job.blocks:
            need -= BLOCK * sum(block in self._held for block in self._find(job))
        return self.used + need <= self._spec.kv_tokens

    def take(self, job: Job) -> None:
        """Reserve room for it; what it shares is safe from now on."""
        self.used += job.kv
        if job.blocks:
            self._hold(job, self._find(job))
        if self._idle:
            self._make_way()

    def begin(self, job: Job) -> int:
        """Tokens that the job has to read: called when its reading begins, others may have read for it meanwhile."""
        if self._spec.prefix_caching:
            self.queried += job.prompt
        if not job.blocks:
            return job.prompt
        found = self._find(job)
        self._hold(job, found[job.held :])
        job.cached = len(found) * BLOCK
        self.hit += job.cached
        return job.prompt - job.cached

    def keep(self, job: Job) -> None:
        """The prompt was read: others may share it from now on."""
        if job.blocks and self._spec.prefix_caching:
            self._hold(job, job.blocks[job.held : job.prompt // BLOCK])

    def release(self, job: Job) -> None:
        """The job is gone; where it is complete, what it wrote stays as well."""
        own = job.kv - job.held * BLOCK
        self.used -= own
        if not job.blocks:
            return
        if job.place == "ended" and self._spec.prefix_caching:
            for block in reversed(job.blocks[job.held : job.held + own // BLOCK]):
                if block not in self._held:
                    self._idle.pop(block, None)
                    self._idle[block] = None
        for block in reversed(job.blocks[: job.held]):
            self._let_go(block)
        job.held = 0
        self._make_way()

    def _find(self, job: Job) -> Sequence[int]:
        """The blocks at the beginning of its prompt that are there. One token at least is left to read."""
        most = job.blocks[: (job.prompt - 1) // BLOCK]
        for number, block in enumerate(most):
            if block not in self._held and block not in self._idle:
                return most[:number]
        return most

    def _hold(self, job: Job, blocks: Sequence[int]) -> None:
        """Let the job's own room for these blocks become theirs, or, where another holds them, free."""
        for block in blocks:
            holders = self._held.get(block, 0)
            if holders:
                self.used -= BLOCK
            else:
                self._idle.pop(block, None)
            self._held[block] = holders + 1
        job.held += len(blocks)

    def _let_go(self, block: int) -> None:
        holders = self._held.pop(block) - 1
        if holders:
            self._held[block] = holders
        else:
            self.used -= BLOCK
            self._idle[block] = None

    def _make_way(self) -> None:
        """Give up what nobody holds until all fits."""
        spare = max(0, (self._spec.kv_tokens - self.used) // BLOCK)
        for block in list(islice(self._idle, max(0, len(self._idle) - spare))):
            del self._idle[block]
