"""One model node in virtual time: continuous batching, exact between events, without a clock.

A step takes slow·(a + b·decoding [+ chunk/prefill_rate while a prompt is read]) seconds and gives every decoding
sequence one token and the prompt at the head `chunk` tokens, but for what it shares with earlier ones (`room`).
Admission is first come, first served, bounded by sequences and by KV tokens that are reserved whole. Nothing changes
the length of a step between two events, so progress is linear: the state is kept as of the last change and all else
derived, hence event times do not depend on how often somebody looks. Time is in seconds on the caller's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import assert_never

from weighbridge_simulator.room import Room
from weighbridge_simulator.service import EngineSample, EngineSpec, Event, EventKind, Job, require_positive

__all__ = ["Engine", "EngineSample", "EngineSpec", "Event", "EventKind", "Job"]


class Engine:
    """The service of one node. Every method takes the present moment, which never goes back."""

    # fmt: off
    __slots__ = (
        "_busy", "_cancelled", "_decoding", "_due", "_ended", "_ends", "_frozen", "_generated", "_order",
        "_pending", "_prompt_tokens", "_queue", "_reading", "_rest", "_room", "_sequences", "_since", "_slow", "_step",
        "_steps", "_ttft_count", "_ttft_sum", "_waiting", "spec",
    )
    # fmt: on

    def __init__(self, spec: EngineSpec, now: float = 0.0, slow: float = 1.0) -> None:
        self.spec = spec
        self._room = Room(spec)
        self._queue: deque[Job] = deque()  # cancelled ones stay until they reach the head
        self._reading: deque[Job] = deque()
        self._ends: list[tuple[float, int, Job]] = []  # (step count at which the answer is complete, order, job)
        self._pending: list[Event] = []
        self._since, self._due = now, inf
        self._steps = self._rest = self._step = 0.0
        self._sequences = self._decoding = self._waiting = self._order = 0
        self._generated = self._busy = self._ttft_sum = 0.0
        self._prompt_tokens = self._ttft_count = self._ended = self._cancelled = 0
        self._frozen = False
        self._slow = require_positive("slow", slow)

    @property
    def slow(self) -> float:
        """How many times slower than its spec the node is."""
        return self._slow

    @property
    def since(self) -> float:
        """When anything last changed."""
        return self._since

    @property
    def step_seconds(self) -> float:
        """Length of a step as things are; 0 when idle or frozen."""
        return self._step

    def fits(self, job: Job) -> bool:
        """Whether the node could ever serve the job, were it empty."""
        return job.kv <= self.spec.kv_tokens and job.n <= self.spec.sequences

    def next_event(self) -> float:
        """When `advance` will next have something to tell, if nothing else happens; inf if never."""
        return self._pending[0][2] if self._pending else self._due

    def submit(self, job: Job, now: float) -> None:
        """Take a job. ValueError if it is not new or could never fit."""
        if job.place != "new":
            raise ValueError(f"the job is already {job.place}")
        if not self.fits(job):
            room = f"this node has {self.spec.kv_tokens} and {self.spec.sequences}"
            raise ValueError(f"needs {job.kv} KV tokens and {job.n} sequences; {room}")
        if self._due <= now:
            self._run(now)
        job.submitted, job.place = now, "waiting"
        self._queue.append(job)
        self._waiting += job.n
        if self._waiting == job.n and not self._frozen and self._has_room(job):
            self._fold(now)
            self._admit()
            self._plan()

    def cancel(self, job: Job, now: float) -> bool:
        """Give a job up: its KV and its place are free at once. False if there was nothing left to give up."""
        if self._due <= now:
            self._run(now)
        blocking = job.place in ("reading", "decoding") or (job.place == "waiting" and self._queue[0] is job)
        match job.place:
            case "waiting":
                self._waiting -= job.n
            case "reading":
                self._fold(now)
                self._leave_reading(job)
            case "decoding":
                self._fold(now)
                self._decoding -= job.n
                self._release(job)
            case "new" | "ended" | "cancelled" | "refused":
                return False
            case _:
                assert_never(job.place)
        job.place, job.end = "cancelled", now
        self._cancelled += job.n
        if blocking:
            self._fold(now)
            self._admit()
            self._plan()
        return True

    def advance(self, now: float) -> list[Event]:
        """All events up to and including `now` that were not told yet, in order of time."""
        if self._due <= now:
            self._run(now)
        events, self._pending = self._pending, []
        return events

    def speed(self, slow: float, now: float) -> None:
        """Be `slow` times slower than the spec from now on."""
        self._settle(now)
        self._slow = require_positive("slow", slow)
        self._plan()

    def freeze(self, frozen: bool, now: float) -> None:
        """Stand still, or go on. A frozen node takes jobs and does nothing with them."""
        self._settle(now)
        self._frozen = frozen
        self._admit()
        self._plan()

    def resize(self, spec: EngineSpec, now: float) -> None:
        """Change what the node can do. Jobs inside stay; waiting ones that can no longer ever fit are refused."""
        self._settle(now)
        self.spec = spec
        self._room.resize(spec)
        for job in self._queue:
            if job.place == "waiting" and not self.fits(job):
                job.place, job.end = "refused", now
                self._waiting -= job.n
                self._pending.append((job, "refused", now))
        self._admit()
        self._plan()

    def sample(self, now: float) -> EngineSample:
        """The node at this moment."""
        if self._due <= now:
            self._run(now)
        elapsed = max(0.0, now - self._since)
        steps = elapsed / self._step if self._step else 0.0
        return EngineSample(
            running=self._sequences,
            waiting=self._waiting,
            kv=self._room.used / self.spec.kv_tokens,
            kv_used=self._room.used,
            generated_tokens=self._generated + steps * self._decoding,
            prompt_tokens=self._prompt_tokens,
            busy_seconds=self._busy + (elapsed if self._step else 0.0),
            ttft_sum=self._ttft_sum,
            ttft_count=self._ttft_count,
            ended=self._ended,
            cancelled=self._cancelled,
            queried_tokens=self._room.queried,
            cached_tokens=self._room.hit,
        )

    def produced(self, job: Job, now: float) -> int:
        """Whole tokens that each sequence of the job has by now."""
        match job.place:
            case "ended":
                return job.answer
            case "decoding":
                steps = self._steps + (max(0.0, now - self._since) / self._step if self._step else 0.0)
                return min(job.answer, 1 + int(steps - job.started + 1e-9))
            case _:
                return 0

    def jobs(self) -> Iterator[Job]:
        """Every job inside: decoding, reading, waiting."""
        yield from (job for _, _, job in self._ends if job.place == "decoding")
        yield from self._reading
        yield from (job for job in self._queue if job.place == "waiting")

    def _settle(self, now: float) -> None:
        if self._due <= now:
            self._run(now)
        self._fold(now)

    def _run(self, now: float) -> None:
        while self._due <= now:
            at = self._due
            self._fold(at)
            ends = self._ends
            # The earlier of the two is due; which one follows from what is left of each, in steps.
            if self._reading and (not ends or self._rest / self.spec.chunk <= ends[0][0] - self._steps):
                self._finish_prompt(at)
            else:
                self._finish_answer(at)
            self._plan()

    def _fold(self, now: float) -> None:
        """Bring the kept state to `now`."""
        elapsed = now - self._since
        if elapsed < 0.0:
            raise ValueError(f"time went back by {-elapsed} s")
        if self._step and elapsed:
            steps = elapsed / self._step
            self._steps += steps
            self._generated += steps * self._decoding
            self._busy += elapsed
            if self._reading:
                self._rest -= steps * self.spec.chunk
        self._since = now

    def _plan(self) -> None:
        """Set the length of a step and the moment of the next event."""
        ends, reading = self._ends, self._reading
        while ends and ends[0][2].place != "decoding":
            heappop(ends)
        if self._frozen or not (ends or reading):
            self._step, self._due = 0.0, inf
            return
        spec, left = self.spec, ends[0][0] - self._steps if ends else inf
        step = spec.a + spec.b * self._decoding
        if reading:
            step += spec.chunk / spec.prefill_rate
            left = min(left, self._rest / spec.chunk)
        step *= self._slow
        self._step = step
        self._due = self._since + left * step if left > 0.0 else self._since

    def _finish_prompt(self, at: float) -> None:
        job = self._reading.popleft()
        self._room.keep(job)
        if self._reading:
            self._rest = float(self._room.begin(self._reading[0]))
        job.first = at
        self._prompt_tokens += job.prompt
        self._ttft_sum += job.n * (at - job.submitted)
        self._ttft_count += job.n
        self._pending.append((job, "first", at))
        if job.answer:
            self._generated += job.n
        if job.answer <= 1:
            self._finish(job, at)
            return
        job.place, job.started = "decoding", self._steps
        self._decoding += job.n
        self._order += 1
        heappush(self._ends, (self._steps + job.answer - 1, self._order, job))

    def _finish_answer(self, at: float) -> None:
        self._steps, _, job = heappop(self._ends)
        self._decoding -= job.n
        self._finish(job, at)

    def _finish(self, job: Job, at: float) -> None:
        job.place, job.end = "ended", at
        self._ended += job.n
        self._release(job)
        self._pending.append((job, "end", at))
        if self._queue:
            self._admit()

    def _release(self, job: Job) -> None:
        self._sequences -= job.n
        self._room.release(job)

    def _leave_reading(self, job: Job) -> None:
        reading = self._reading
        if reading[0] is job and len(reading) > 1:
            self._rest = float(self._room.begin(reading[1]))
        reading.remove(job)
        self._release(job)

    def _has_room(self, job: Job) -> bool:
        return self._sequences + job.n <= self.spec.sequences and self._room.fits(job)

    def _admit(self) -> None:
        queue = self._queue
        while queue:
            job = queue[0]
            if job.place == "waiting":
                if self._frozen or not self._has_room(job):
                    return
                job.place = "reading"
                self._waiting -= job.n
                self._sequences += job.n
                self._room.take(job)
                if not self._reading:
                    self._rest = float(self._room.begin(job))
                self._reading.append(job)
            queue.popleft()
