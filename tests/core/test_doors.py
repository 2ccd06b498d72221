"""What the entrance opens with: a slip shuts nobody out, one bad key costs its owner alone, no value is ever said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.mounted import authority, server
from weighbridge_operator.core.doors import LONGEST_KEY, MOST_KEYS, TOLD, DoorNames, Doors, open_doors

KEYS, TLS = DoorNames("gw", keys="k"), DoorNames("gw", tls="t")
PAIR = server(authority())
GOOD = {"tls.crt": PAIR.certificate_pem, "tls.key": PAIR.key_pem}


def callers(**values: bytes) -> Doors:
    return open_doors(KEYS, {("gw", "k"): values}, Doors())


def test_names_that_nobody_gave_open_nothing_and_ask_for_nothing() -> None:
    assert open_doors(DoorNames(), {("default", "k"): {"a": b"x"}}, Doors()) == Doors()


def test_a_secret_of_another_namespace_is_none() -> None:
    doors = open_doors(KEYS, {("other", "k"): {"a": b"x"}}, Doors())
    assert doors.callers is None
    assert "gw/k" in doors.problems[0]


def test_what_stands_around_a_key_is_not_part_of_it() -> None:
    assert callers(a=b" sk-1 \n").callers == (("a", "sk-1"),)
    assert callers(a=b"x" * LONGEST_KEY).problems == ()


def test_a_bad_entry_lets_nobody_in_and_leaves_the_others_alone() -> None:
    doors = callers(a=b"sk-1", b=b"", c=b"a b", d="schlüssel".encode(), e=b"\xff", f=b"sk-1\n", g=b"x" * 513, h=b"a\0b")
    assert doors.callers == (("a", "sk-1"),)
    assert [text.partition("entry ")[2][0] for text in doors.problems] == list("bcdefgh")
    assert "has the same key as a" in doors.problems[4]


def test_an_empty_secret_lets_nobody_in_and_a_lost_one_keeps_its_keys() -> None:
    held = callers(a=b"sk-1")
    empty = open_doors(KEYS, {("gw", "k"): {}}, held)
    assert (empty.callers, len(empty.problems)) == ((), 1)
    lost = open_doors(KEYS, {}, held)
    assert (lost.callers, len(lost.problems)) == (held.callers, 1)


def test_problems_and_keys_are_bounded() -> None:
    doors = callers(**{f"c{number}": b"" for number in range(100)})
    assert len(doors.problems) == TOLD + 1
    assert doors.problems[-1].endswith(f"{100 - TOLD} more entries let nobody in")
    many = callers(**{f"c{number:06}": b"k%d" % number for number in range(MOST_KEYS + 5)})
    assert many.callers is not None
    assert len(many.callers) == MOST_KEYS
    assert "more than 20000 keys" in many.problems[0]


def test_a_broken_certificate_keeps_the_last_good_one() -> None:
    good = open_doors(TLS, {("gw", "t"): GOOD}, Doors())
    assert good.problems == ()
    assert good.certificate is not None
    for entries in ({}, {"tls.crt": GOOD["tls.crt"]}, {**GOOD, "tls.key": b"junk"}, {**GOOD, "tls.crt": b"junk"}):
        broken = open_doors(TLS, {("gw", "t"): entries}, good)
        assert broken.certificate == good.certificate
        assert "last good one stays" in broken.problems[0]
        assert open_doors(TLS, {("gw", "t"): entries}, Doors()).certificate is None
    assert "nobody is answered" in open_doors(TLS, {}, Doors()).problems[0]


@given(st.dictionaries(st.text("abc.-_", min_size=1, max_size=6), st.binary(max_size=40), max_size=12))
def test_whatever_the_entries_are_each_key_has_one_owner(entries: dict[str, bytes]) -> None:
    doors = open_doors(KEYS, {("gw", "k"): entries}, Doors())
    assert doors.callers is not None
    keys = [key for _, key in doors.callers]
    assert len(set(keys)) == len(keys)
    assert all(entries[client].strip().decode() == key for client, key in doors.callers)
    told = {text.partition("entry ")[2].split(" ")[0] for text in doors.problems} - {""}
    assert told | {client for client, _ in doors.callers} == set(entries)
