"""Answers that are no turns of a talk: images, speech, transcriptions, rankings. Pure, and cheap to make."""

from __future__ import annotations

import base64
import struct
import zlib

from weighbridge_simulator.answers import encode, write_event, write_words
from weighbridge_simulator.ask import Ask

_SAMPLES = 160  # of sound for each token, at 8,000 a second
_RATE = 8000
_KINDS = {"wav": b"audio/wav", "mp3": b"audio/mpeg", "pcm": b"audio/pcm"}


class _Whole:
    """An answer that comes in one piece."""

    kind = b"application/json"

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        self._ask, self._ident, self._created = ask, ident, created

    def whole(self) -> bytes:
        """The answer in one piece."""
        raise NotImplementedError

    def opening(self) -> bytes:
        """What a stream starts with: nothing."""
        return b""

    def piece(self, _start: int, _stop: int) -> bytes:
        """A part of a stream: nothing."""
        return b""

    def closing(self) -> bytes:
        """What a stream ends with: all of it."""
        return self.whole()


class Images(_Whole):
    """PNG files of one pixel, whose colour follows from the prompt."""

    def whole(self) -> bytes:
        """The images, in the text itself or behind an address."""
        made = [paint(self._ask.seeds[0] + number) for number in range(self._ask.n)]
        encoded = [base64.b64encode(image).decode() for image in made]
        data = [
            {"b64_json": text} if self._ask.form == "b64_json" else {"url": f"data:image/png;base64,{text}"}
            for text in encoded
        ]
        return encode({"created": self._created, "data": data})


class Speech(_Whole):
    """Silence as long as the text. What is called mp3 is a wave, too: nobody listens."""

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        super().__init__(ask, ident, created)
        self.kind = _KINDS[ask.form]

    def whole(self) -> bytes:
        """The sound."""
        sound = bytes(_SAMPLES * self._ask.answer)
        if self._ask.form == "pcm":
            return sound
        shape = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, _RATE, 1, 8)
        inner = b"WAVE" + shape + struct.pack("<4sI", b"data", len(sound)) + sound
        return struct.pack("<4sI", b"RIFF", len(inner)) + inner


class Transcription(_Whole):
    """Words that follow from the sound."""

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        super().__init__(ask, ident, created)
        self.kind = b"text/plain; charset=utf-8" if ask.form == "text" else b"application/json"

    def whole(self) -> bytes:
        """The text, as it was wanted."""
        text = write_words(self._ask.seeds[0], 0, self._ask.answer)
        if self._ask.form == "text":
            return text.encode() + b"\n"
        if self._ask.form == "json":
            return encode({"text": text})
        return encode({"task": "transcribe", "language": "english", "duration": 1.0, "text": text, "segments": []})

    def piece(self, start: int, stop: int) -> bytes:
        """Tokens `start` to `stop`."""
        if start >= stop:
            return b""
        delta = write_words(self._ask.seeds[0], start, stop)
        return write_event({"type": "transcript.text.delta", "delta": delta})

    def closing(self) -> bytes:
        """The whole text once more."""
        text = write_words(self._ask.seeds[0], 0, self._ask.answer)
        return write_event({"type": "transcript.text.done", "text": text})


class Ranking(_Whole):
    """Documents by how well they fit, the best first."""

    def whole(self) -> bytes:
        """Places and scores; a score follows from question and document."""
        scores = sorted(((seed / 2**32, -index) for index, seed in enumerate(self._ask.seeds)), reverse=True)
        results = [{"index": -index, "relevance_score": round(score, 6)} for score, index in scores[: self._ask.n]]
        usage = {"total_tokens": self._ask.prompt}
        return encode({"id": "rerank-" + self._ident, "model": self._ask.model, "results": results, "usage": usage})


def paint(seed: int) -> bytes:
    """A PNG of one pixel. https://www.w3.org/TR/png/"""
    pixel = zlib.compress(b"\0" + (seed & 0xFFFFFF).to_bytes(3, "big"), 1)
    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", pixel) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
