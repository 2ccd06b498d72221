"""Which blocks of the KV cache a request's text fills: the same beginning, the same blocks. Pure."""

from __future__ import annotations

from weighbridge_simulator.answers import write_words
from weighbridge_simulator.ask import Ask, join_messages
from weighbridge_simulator.service import BLOCK

CHARACTERS = 4 * BLOCK  # of a block, at four characters a token


def name_blocks(ask: Ask) -> tuple[int, ...]:
    """Names of the whole blocks of prompt and answer; none where the prompt is shorter than a block."""
    if len(ask.text) < CHARACTERS:
        return ()
    # As the prompt of the next turn has it, where its client sends back what it got.
    said = "" if ask.operation in ("completion", "content") else "\n" + join_messages(["assistant: "])
    text = ask.text + said.encode() + write_words(ask.seeds[0], 0, ask.answer).encode()
    names, name = [], hash(ask.model)
    for at in range(0, len(text) - CHARACTERS + 1, CHARACTERS):
        name = hash((name, text[at : at + CHARACTERS]))
        names.append(name)
    return tuple(names)
