"""`explain --request` and `--choices` in words, for several data planes, and what is said where nothing is found."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from weighbridge_operator.choices import explain_choices
from weighbridge_operator.cli import main
from weighbridge_operator.client import NoAnswerError, Paper, Place
from weighbridge_operator.views.choices import SILENCE, Told, tell_choices
from weighbridge_operator.views.lines import cells, paint

A = {"address": "10.0.0.1:80", "node": "default/a", "load": 0.21, "fill": 0.4, "backlog": 0.25, "saved": 0.2,
     "hit": 1500.0, "by": "page"}  # fmt: skip
B = {"address": "10.0.0.2:80", "node": None, "load": 0.81, "fill": 0.9, "backlog": 0.0, "saved": 0.0,
     "hit": 0.0, "by": "count"}  # fmt: skip


def choice(**other: Any) -> dict[str, Any]:
    told = {"at": 1764195000.25, "request": "r-1", "clusters": ["p"], "node": "default/a", "address": "10.0.0.1:80",
            "cluster": "p", "silence": None, "size": 2048, "blocks": 2, "session": True,
            "known": "all", "candidates": [B, A]}  # fmt: skip
    return told | other


def answer(*choices: dict[str, Any], host: str = "envoy-1", since: float | None = 1764194000.0) -> dict[str, Any]:
    kept = {"kept": 812, "most": 20_000, "since": since}
    return {"host": host, "process": 7, "socket": "/run/weighbridge/dataplane", **kept, "choices": list(choices)}


def place(told: dict[str, Any], name: str = "http://127.0.0.1:9903") -> Place:
    return Place(name, lambda _: json.dumps(told).encode())


def silent_place() -> Place:
    def fetch(_: str) -> bytes:
        raise NoAnswerError("no data plane answers at http://127.0.0.1:1")

    return Place("http://127.0.0.1:1", fetch)


def run(*places: Place, request: str | None = "r-1", output: Any = "text") -> tuple[int, str]:
    stream = io.StringIO()
    code = explain_choices(places, request, 5, output, Paper(stream, False, None))
    return code, stream.getvalue()


def test_a_named_node_is_told_with_the_parts_of_every_candidate_the_best_first() -> None:
    code, text = run(place(answer(choice())))
    assert code == 0
    who, blank, head, named, request, titles, first, second = text.splitlines()
    assert who.startswith("data plane at http://127.0.0.1:9903: host envoy-1, process 7, socket /run/")
    assert blank == ""
    assert head == "request r-1  2025-11-26 22:10:00.250 UTC"
    assert named.strip() == "✓ named default/a at 10.0.0.1:80: the least load of 2"
    assert request.strip() == (
        "2,048 bytes, 2 blocks of its beginning, of a conversation, known of every Envoy's requests"
    )
    assert titles.split() == ["NODE", "LOAD", "FILL²", "UNREAD", "SAVED", "FOUND", "JUDGED", "BY"]
    assert " ".join(first.split()) == "→ default/a 10.0.0.1:80 0.210 = 0.160 + 0.250 s - 0.200 s 1,500 tokens its page"
    assert " ".join(second.split()) == "10.0.0.2:80 0.810 = 0.810 + 0.000 s - 0.000 s 0 tokens our own counts"


def test_one_that_nothing_tells_apart_from_the_least_is_not_called_the_least() -> None:
    _, text = run(place(answer(choice(node="default/b", address="10.0.0.2:80", candidates=[A, B | {"load": 0.2101}]))))
    assert "named default/b at 10.0.0.2:80: as good as the least load of 2" in text


def test_what_a_home_counts_as_having_read_is_told_apart_from_what_was_sent_there() -> None:
    _, text = run(place(answer(choice(known="home", candidates=[A | {"home": True}, B | {"home": False}]))))
    *_, request, _, first, second = text.splitlines()
    assert request.endswith("known of this data plane's requests, and drawn home")
    assert "home, 1,500 tokens" in first
    assert "home" not in second


def test_a_data_plane_of_an_earlier_version_that_does_not_say_whose_memory_it_was_is_read() -> None:
    code, text = run(place(answer({key: value for key, value in choice().items() if key != "known"})))
    assert code == 0
    assert "of a conversation\n" in text


@pytest.mark.parametrize("reason", [*SILENCE, "a reason of\x1b[31m a later version"])
def test_silence_has_its_reason_in_words(reason: str) -> None:
    silent = choice(node=None, address=None, cluster=None, silence=reason, candidates=[], session=False, blocks=0)
    code, text = run(place(answer(silent)))
    assert code == 0
    assert "? silent, so that the weights decided: " in text
    assert (SILENCE.get(reason) or "a reason of a later version") in text
    assert "\x1b" not in text


def test_every_data_plane_is_asked_and_the_one_that_knows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(
        silent_place(),
        place(answer(), "http://127.0.0.1:2"),
        place(answer(choice(), host="envoy-3"), "http://127.0.0.1:3"),
    )
    assert code == 0
    assert "http://127.0.0.1:3: host envoy-3" in text
    assert "http://127.0.0.1:2" not in text
    assert capsys.readouterr().err == "weighbridge: no data plane answers at http://127.0.0.1:1\n"


def test_what_was_not_kept_is_said_with_what_is_and_how_to_keep_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place(answer()), place(answer(since=None), "http://127.0.0.1:2")) == (1, "")
    said = capsys.readouterr().err
    assert "no choice is kept for the request 'r-1'" in said
    assert "or the choice came after the 20 ms that Envoy waits" in said
    assert (
        "(host envoy-1, process 7) keeps the last 20,000 choices and has 812, from 2025-11-26 21:53:20.000 UTC" in said
    )
    assert "http://127.0.0.1:2 (host envoy-1, process 7) has made no choice yet (it keeps the last 20,000)" in said
    assert "--keep-choices N" in said


def test_json_has_all_answers_each_with_where_it_came_from() -> None:
    code, text = run(place(answer(choice())), place(answer(), "http://127.0.0.1:2"), output="json")
    first, second = json.loads(text)["answers"]
    assert code == 0
    assert (first["from"], first["host"], first["choices"]) == ("http://127.0.0.1:9903", "envoy-1", [choice()])
    assert (second["from"], second["choices"]) == ("http://127.0.0.1:2", [])


def test_what_is_no_data_plane_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place({"choices": []})) == (1, "")
    assert "is no data plane of this version" in capsys.readouterr().err


def test_it_fits_the_screen() -> None:
    told = TypeAdapter(Told).validate_python(answer(choice(candidates=[A] * 3)))
    lines = [paint(line, False) for line in tell_choices([("http://127.0.0.1:9903", told)], 60)]
    assert max(map(cells, lines)) <= 60


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["a", "--request", "x"], "give one of NODE, --request and --choices"),
        (["--request", "x", "--choices", "1"], "give one of"),
        (["--choices", "0"], "a number of 1 to 1000"),
        (["--request", ""], "x-request-id"),
        (["--dataplane-url", "http://127.0.0.1:1"], "only with --request or --choices"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main("explain", flags)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_an_address_that_nobody_has_says_which_flag_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_DATAPLANE_URL", "http://127.0.0.1:1,ftp://x")
    assert main("explain", ["--choices", "1"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("weighbridge: no data plane answers at http://127.0.0.1:1")
    assert "--dataplane-url or WEIGHBRIDGE_DATAPLANE_URL" in first
    assert second == (
        "weighbridge: 'ftp://x' is no http:// URL: give the data plane's with --dataplane-url or "
        "WEIGHBRIDGE_DATAPLANE_URL"
    )
