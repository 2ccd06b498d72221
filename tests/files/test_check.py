"""`weighbridge check` prints each problem as a line, says the whole in one, and exits with what it found."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from weighbridge_operator.check import main, print_text
from weighbridge_operator.sources.files import load
from weighbridge_operator.state import DesiredState, Ref

GOOD = """apiVersion: weighbridge.dev/v1alpha1
kind: ModelNode
metadata: {name: a}
spec:
  engine: vllm
  address: {host: 10.0.0.1, port: 8000}
  models: [{name: m}]
"""
BAD = GOOD.replace("engine: vllm", "engine: vlm").replace("8000", "0")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_valid_files_exit_0_with_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert main(["-f", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 ModelNode; no problem\n"


def test_each_problem_is_a_line_and_the_exit_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BAD)
    assert main(["-f", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"{path}:5:3: ModelNode a: spec.engine: must be vllm, sglang, tgi, triton, llamacpp, openai or custom"
    )
    assert lines[1].startswith(f"{path}:6:29: ModelNode a: spec.address.port: must be 1 or more")
    assert lines[2:] == ["no valid object; 2 problems"]


def test_json_says_the_same_to_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    (tmp_path / "b.yaml").write_text(GOOD.replace("name: a", "name: b"))
    assert main(["-f", str(tmp_path), "--output", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is False
    assert report["objects"] == [{"kind": "ModelNode", "namespace": "default", "name": "b"}]
    assert [problem["field"] for problem in report["problems"]] == ["spec.engine", "spec.address.port"]
    assert {"file", "line", "column", "object", "message", "remedy", "text"} <= report["problems"][0].keys()


def test_a_path_that_is_not_there_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-f", str(tmp_path / "nowhere")]) == 1
    assert "no such file or directory" in capsys.readouterr().out


def test_what_only_the_whole_can_tell_is_a_problem_of_the_objects_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(GOOD)

    def find(desired: DesiredState, namespace: str) -> Sequence[tuple[Ref, str]]:
        assert namespace == "ours"
        return [(Ref("ModelNode", node.metadata.namespace, node.metadata.name), "is lonely") for node in desired.nodes]

    assert main(["-f", str(path), "--namespace", "ours"], find) == 1
    assert capsys.readouterr().out.splitlines()[0] == f"{path}:1:1: ModelNode a: is lonely"


def test_a_terminal_gets_colour_and_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BAD)
    loaded = load([path])
    terminal, pipe = Terminal(), io.StringIO()
    print_text(loaded, loaded.problems, terminal)
    print_text(loaded, loaded.problems, pipe)
    painted = terminal.getvalue()
    assert "\x1b[1m" in painted
    assert "\x1b" not in pipe.getvalue()
    for code in ("\x1b[1m", "\x1b[32m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == pipe.getvalue()
