"""Who has most of a prompt is found as a look at every node would find it, without one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weighbridge_dataplane.affinity import HOLDERS, Affinity
from weighbridge_dataplane.facts import DEPTHS, Beginning

NODES = tuple("abcd")
words = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def chain(prompt: list[int]) -> tuple[str, ...]:
    """A hash stands for all before it."""
    return tuple("".join(map(str, prompt[: end + 1])) for end in range(len(prompt)))


@given(
    st.lists(st.tuples(st.sampled_from(NODES), words, st.sampled_from(["send", "forget"])), max_size=40),
    words,
    st.sampled_from([3, 8, 100]),
)
def test_how_much_a_node_has_is_how_far_it_was_sent_the_same(
    steps: list[tuple[str, list[int], str]], asked: list[int], kept: int
) -> None:
    memory = Affinity(kept)
    held: dict[str, list[str]] = {node: [] for node in NODES}
    for node, prompt, what in steps:
        if what == "forget":
            memory.forget([node])
            held[node] = []
            continue
        blocks = chain(prompt)
        memory.remember(Beginning(node, blocks, None, 0.0))
        held[node] = [*[each for each in held[node] if each not in blocks], *reversed(blocks)][-kept:]
    blocks = chain(asked)
    for node in NODES:
        far = 0
        while far < len(blocks) and blocks[far] in held[node]:
            far += 1
        assert memory.count(node, blocks) == far
        assert memory.find(blocks, None, 9e9).tokens.get(node, 0.0) == (DEPTHS[far] if DEPTHS[far] >= 256 else 0.0)


def test_where_many_nodes_have_the_same_those_are_found_that_have_more_and_those_that_are_asked_for() -> None:
    memory = Affinity()
    common = tuple(f"{number:08x}" for number in range(20))
    for number in range(500):
        memory.remember(Beginning(f"n{number}", common[:10], None, 9e9))
    for number in range(2):
        memory.remember(Beginning(f"more{number}", common[: 12 + number], None, 9e9))
    found = memory.find(common, None, DEPTHS[20], among=["n7", "n499", "unknown"]).tokens
    assert found == {"more0": DEPTHS[12], "more1": DEPTHS[13], "n7": DEPTHS[10], "n499": DEPTHS[10]}
    assert len(memory.find(common[:10], None, DEPTHS[20]).tokens) == HOLDERS
