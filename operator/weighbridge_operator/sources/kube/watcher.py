"""kopf (https://docs.kopf.dev/en/stable/embedding/), in a thread and an event loop of its own, as a reader alone.

kopf cancels every task of its loop when it ends, hence the loop; daemons and timers would add finalizers to objects,
which then could not be deleted while we are down, hence `on.event` alone; a peering would freeze all but one replica,
hence none. It reconnects, notices watches that stalled, and tells every change; what its lists do not tell is an
absence, which is for `source` to find.

Where it cannot go on it ends, and is started anew. Its end is ours to make certain: it leaves the watches that did not
fail to themselves for five seconds, with their session closed, and then cancels everything at once; a watch that was
being asked for takes that for a pause, asks again, and waits for credentials that nobody gives any more. So the end
never came, nor a new beginning, and after ten minutes kopf would have killed the process. Hence `end`, `_end_rest`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import kopf

from weighbridge_api.base import GROUP, VERSION
from weighbridge_operator.sources.kube.access import PAGE, Raw
from weighbridge_operator.sources.kube.sessions import Sessions

PAUSE, PAUSE_MOST = 0.25, 2.0  # seconds before kopf is started anew: the first times, and later
SOON = 20  # times: an API server that is starting refuses for some seconds
LASTING = 10.0  # seconds after which a watch counts as one that worked
BACKOFFS = (0.5,)  # seconds between tries of one call: its default grows to 21, and a change would wait for it
CONNECTING = 5.0  # seconds: whoever does not answer is asked at least every two seconds, as TCP repeats itself
ENDING = 2.0  # seconds for what kopf leaves behind to end in
SPARING = 60.0  # seconds between two lines of what kopf says
log = logging.getLogger("weighbridge.kubernetes")

#: What was heard: the plural of the kind; None (from a list), ADDED, MODIFIED or DELETED; the object.
Deliver = Callable[[str, str | None, Raw], None]


class Watcher:
    """Tells `deliver`, in its own thread, of every object of these kinds; `namespaces` empty means all."""

    def __init__(self, plurals: Collection[str], namespaces: Collection[str], deliver: Deliver) -> None:
        self._plurals, self._namespaces, self._deliver = plurals, namespaces, deliver
        self._ended, self._said = threading.Event(), _Sparing()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None], Sessions] | None = None
        # A daemon, because a hanging connection must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        kopfs = logging.getLogger("kopf")
        kopfs.setLevel(logging.ERROR)
        kopfs.handlers, kopfs.propagate = [self._said], False
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread soon; nothing is delivered afterwards."""
        self._ended.set()
        self._call(lambda task, _: task.cancel())

    def renew(self) -> None:
        """Begins every watch anew: a connection may have died without a word while the API server was away."""
        self._call(lambda _, sessions: sessions.renew())

    def _call(self, what: Callable[[asyncio.Task[None], Sessions], object]) -> None:
        running = self._running
        if running is not None:
            loop, task, sessions = running
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(what, task, sessions)

    def _run(self) -> None:
        failed = 0
        while not self._ended.is_set():
            began = time.monotonic()
            why: BaseException | None = None
            try:
                self._run_once()
            except (Exception, asyncio.CancelledError) as error:
                why = error
            failed = 1 if time.monotonic() - began > LASTING else failed + 1
            if not self._ended.is_set():
                self._said.say(f"it broke off ({str(why) or type(why).__name__}) and begins anew")
            self._ended.wait(PAUSE if failed < SOON else PAUSE_MOST)

    def _run_once(self) -> None:
        # Not asyncio.run, which waits for every task that is left, and one that asks again for ever.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._watch())
        finally:
            loop.run_until_complete(_end_rest())
            loop.close()

    async def _watch(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        # What fails in its first look at the API server kopf leaves lying: a page of traceback for each.
        loop.set_exception_handler(lambda _, context: log.debug("kopf: %s", context.get("exception")))
        sessions = Sessions(self._plurals, self._said.say)
        self._running = loop, task, sessions
        if self._ended.is_set():
            return
        try:
            await kopf.operator(
                registry=self._register(sessions, task),
                settings=_configure(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=sorted(self._namespaces),
            )
        finally:
            self._running = None
            await sessions.close()

    def _register(self, sessions: Sessions, task: asyncio.Task[None]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(sessions.log_in)

        # kopf comes here when it has decided to end, before it waits for what hangs.
        @kopf.on.cleanup(registry=registry)
        async def end(**_: object) -> None:
            task.cancel()

        for plural in self._plurals:
            kopf.on.event(GROUP, VERSION, plural, registry=registry)(self._make_handler(plural))
        return registry

    def _make_handler(self, plural: str) -> Callable[..., Any]:
        async def hear(event: kopf.RawEvent, **_: object) -> None:
            if not self._ended.is_set():
                self._deliver(plural, event["type"], dict(event["object"]))

        return hear


async def _end_rest() -> None:
    """Cancels every other task until there is none, or it has to be left behind: kopf's take one for a pause."""
    loop = asyncio.get_running_loop()
    last = loop.time() + ENDING
    while (rest := asyncio.all_tasks() - {asyncio.current_task()}) and loop.time() < last:
        for task in rest:
            task.cancel()
        await asyncio.sleep(0.01)


class _Sparing(logging.Handler):
    """Of what kopf says about each try of each watch, several lines a second while the API server is away, one line."""

    def __init__(self) -> None:
        super().__init__()
        self._said = -SPARING

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage().partition(" -> ")[0])

    def say(self, text: str) -> None:
        """Logs it, unless something was logged within a minute."""
        now = time.monotonic()
        if now - self._said >= SPARING:
            self._said = now
            log.warning("the watch: %s; what is known stays", text[:300])


class _Nothing(kopf.DiffBaseStorage):
    """What kopf compares an object with. We compare for ourselves, and a third of kopf's work is the copy for it."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is written into an object, ever."""


def _configure() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # our kinds and namespaces are known; no right to look for others is needed
    settings.watching.chunk_size = PAGE
    settings.networking.error_backoffs = BACKOFFS
    settings.networking.connect_timeout = CONNECTING
    settings.process.ultimate_exiting_timeout = None  # else it kills the process when its end takes ten minutes
    settings.persistence.diffbase_storage = _Nothing()
    return settings
