"""Answers in the shapes of other APIs than OpenAI's completions: responses, Anthropic's messages, Gemini's contents.

Each has the same four parts as a completion: whole, or opening, pieces and closing of a stream. Pure.
"""

from __future__ import annotations

from weighbridge_simulator.answers import encode, write_event, write_words
from weighbridge_simulator.ask import Ask


def write_count(ask: Ask) -> bytes:
    """How many tokens a prompt has, as Anthropic and Gemini tell it."""
    return encode({"input_tokens" if ask.operation == "message" else "totalTokens": ask.prompt})


class Response:
    """OpenAI's Responses API."""

    kind = b"application/json"

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        self._ask, self._seed = ask, ask.seeds[0]
        self._item = "msg_" + ident
        self._base: dict[str, object] = {
            "id": "resp_" + ident,
            "object": "response",
            "created_at": created,
            "model": ask.model,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
        }

    def whole(self) -> bytes:
        """The answer in one piece."""
        return encode(self._completed())

    def opening(self) -> bytes:
        """What a stream starts with."""
        begun = {**self._base, "status": "in_progress", "output": []}
        item = {"id": self._item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        place = {"item_id": self._item, "output_index": 0, "content_index": 0}
        return b"".join(
            (
                self._event(0, "response.created", {"response": begun}),
                self._event(1, "response.output_item.added", {"output_index": 0, "item": item}),
                self._event(2, "response.content_part.added", {**place, "part": self._part("")}),
            )
        )

    def piece(self, start: int, stop: int) -> bytes:
        """Tokens `start` to `stop`."""
        if start >= stop:
            return b""
        told = {"delta": write_words(self._seed, start, stop), "logprobs": [], **self._place()}
        return self._event(3 + start, "response.output_text.delta", told)

    def closing(self) -> bytes:
        """What a stream ends with."""
        number, text = 3 + self._ask.answer, self._text()
        item = {"output_index": 0, "item": self._message()}
        return b"".join(
            (
                self._event(number, "response.output_text.done", {"text": text, "logprobs": [], **self._place()}),
                self._event(number + 1, "response.content_part.done", {**self._place(), "part": self._part(text)}),
                self._event(number + 2, "response.output_item.done", item),
                self._event(number + 3, "response.completed", {"response": self._completed()}),
            )
        )

    def _text(self) -> str:
        return write_words(self._seed, 0, self._ask.answer)

    def _part(self, text: str) -> dict[str, object]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _message(self) -> dict[str, object]:
        content = [self._part(self._text())]
        return {"id": self._item, "type": "message", "role": "assistant", "status": "completed", "content": content}

    def _place(self) -> dict[str, object]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _completed(self) -> dict[str, object]:
        usage = {
            "input_tokens": self._ask.prompt,
            "input_tokens_details": {"cached_tokens": self._ask.cached},
            "output_tokens": self._ask.answer,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._ask.prompt + self._ask.answer,
        }
        return {**self._base, "status": "completed", "output": [self._message()], "usage": usage}

    def _event(self, number: int, kind: str, told: dict[str, object]) -> bytes:
        return write_event({"type": kind, "sequence_number": number, **told}, kind)


class Message:
    """Anthropic's messages."""

    kind = b"application/json"

    def __init__(self, ask: Ask, ident: str, _: int) -> None:
        self._ask, self._seed = ask, ask.seeds[0]
        self._base: dict[str, object] = {
            "id": "msg_" + ident,
            "type": "message",
            "role": "assistant",
            "model": ask.model,
        }

    def whole(self) -> bytes:
        """The answer in one piece."""
        content = [{"type": "text", "text": write_words(self._seed, 0, self._ask.answer)}]
        usage = {"input_tokens": self._ask.prompt, "output_tokens": self._ask.answer}
        return encode({**self._base, "content": content, **self._end(), "usage": usage})

    def opening(self) -> bytes:
        """What a stream starts with."""
        begun: dict[str, object] = {"content": [], "stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": self._ask.prompt, "output_tokens": 1}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        started = self._event("message_start", {"message": {**self._base, **begun, "usage": usage}})
        return started + self._event("content_block_start", block)

    def piece(self, start: int, stop: int) -> bytes:
        """Tokens `start` to `stop`."""
        if start >= stop:
            return b""
        delta = {"type": "text_delta", "text": write_words(self._seed, start, stop)}
        return self._event("content_block_delta", {"index": 0, "delta": delta})

    def closing(self) -> bytes:
        """What a stream ends with."""
        ended = {"delta": self._end(), "usage": {"output_tokens": self._ask.answer}}
        return (
            self._event("content_block_stop", {"index": 0})
            + self._event("message_delta", ended)
            + self._event("message_stop", {})
        )

    def _end(self) -> dict[str, object]:
        return {"stop_reason": "max_tokens" if self._ask.limited else "end_turn", "stop_sequence": None}

    def _event(self, kind: str, told: dict[str, object]) -> bytes:
        return write_event({"type": kind, **told}, kind)


class Content:
    """Gemini's contents. A stream that was not asked for as events is a list that grows."""

    kind = b"application/json"

    def __init__(self, ask: Ask, ident: str, _: int) -> None:
        self._ask, self._seed, self._ident = ask, ask.seeds[0], ident

    def whole(self) -> bytes:
        """The answer in one piece."""
        return encode(self._candidate(0, self._ask.answer, True))

    def opening(self) -> bytes:
        """What a stream starts with."""
        return b"" if self._ask.events else b"["

    def piece(self, start: int, stop: int) -> bytes:
        """Tokens `start` to `stop`."""
        if start >= stop:
            return b""
        told = self._candidate(start, stop, False)
        return write_event(told) if self._ask.events else encode(told) + b"\n,\r\n"

    def closing(self) -> bytes:
        """What a stream ends with."""
        told = self._candidate(self._ask.answer, self._ask.answer, True)
        return write_event(told) if self._ask.events else encode(told) + b"]"

    def _candidate(self, start: int, stop: int, last: bool) -> dict[str, object]:
        ask = self._ask
        content = {"role": "model", "parts": [{"text": write_words(self._seed, start, stop)}]}
        candidate: dict[str, object] = {"content": content, "index": 0}
        told: dict[str, object] = {"candidates": [candidate], "modelVersion": ask.model, "responseId": self._ident}
        if last:
            candidate["finishReason"] = "MAX_TOKENS" if ask.limited else "STOP"
            told["usageMetadata"] = {
                "promptTokenCount": ask.prompt,
                "candidatesTokenCount": ask.answer,
                "totalTokenCount": ask.prompt + ask.answer,
            }
        return told
