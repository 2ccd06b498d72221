"""Applications that use the gateway: the official client, without retries of its own, so that every loss is seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType

from openai import AsyncOpenAI, OpenAIError

MODEL = "qwen2.5-7b"
LONGEST = 60.0  # seconds that an answer may take


def connect(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=LONGEST)


class Traffic:
    """`async with Traffic(url, rate) as traffic:` sends chats until it ends; `lost` says what failed, and how."""

    def __init__(self, url: str, rate: float = 12.0, tokens: int = 8, model: str = MODEL) -> None:
        self._url, self._pause, self._tokens, self._model = url, 1 / rate, tokens, model
        self.lost: list[str] = []
        self.by_node: Counter[str] = Counter()
        #: Node, and "precise" where it was named for the request, else "weights"; in the order in which they came.
        self.answers: list[tuple[str, str]] = []

    @property
    def answered(self) -> int:
        return self.by_node.total()

    async def __aenter__(self) -> Traffic:
        self._ai = connect(self._url)
        self._sending = asyncio.create_task(self._send_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self._ai.close()

    async def wait_for(self, count: int, limit: float = 120) -> None:
        """Until this many more have come back, answered or not."""
        wanted = self.answered + len(self.lost) + count
        async with asyncio.timeout(limit):
            while self.answered + len(self.lost) < wanted:  # noqa: ASYNC110  many tasks count
                await asyncio.sleep(0.05)

    async def finish(self) -> None:
        """Sends no more, and waits for what is under way."""
        self._ended = True
        await asyncio.wait_for(self._sending, LONGEST + 10)

    async def _send_all(self) -> None:
        self._ended = False
        async with asyncio.TaskGroup() as requests:
            while not self._ended:
                requests.create_task(self._send())
                await asyncio.sleep(self._pause)

    async def _send(self) -> None:
        try:
            raw = await self._ai.chat.completions.with_raw_response.create(
                model=self._model, messages=[{"role": "user", "content": "hello"}], max_tokens=self._tokens
            )
            assert raw.parse().choices[0].message.content
            node = raw.headers.get("x-weighbridge-node", "?")
            self.by_node[node] += 1
            self.answers.append((node, raw.headers.get("x-weighbridge-choice", "weights")))
        except (OpenAIError, AssertionError) as error:
            self.lost.append(f"{type(error).__name__}: {error}"[:300])


async def stream(ai: AsyncOpenAI, tokens: int, begun: asyncio.Semaphore) -> int:
    """Reads one stream to its end; answers how many parts it had. Raises where it is cut or has no end."""
    chunks = await ai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a story"}], max_tokens=tokens, stream=True
    )
    count, finish = 0, None
    async for chunk in chunks:
        if count == 0:
            begun.release()
        count += 1
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
    assert finish is not None, f"a stream ended after {count} parts without a finish_reason"
    return count
