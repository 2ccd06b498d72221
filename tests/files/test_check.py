"""`weighbridge check` prints each problem as a line, says the whole in one, and exits with what it found."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from support.authority import Authority
from weighbridge_operator.check import main, print_text
from weighbridge_operator.sources.files import load

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


@pytest.mark.parametrize("blank", ["", "\n", "# later\n", "---\n# later\n---\n", "\ufeff"])
def test_a_file_without_objects_is_noted_and_passed_over_as_kubectl_does(
    blank: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(blank)
    assert main(["-f", str(tmp_path)]) == 0
    note = f"{tmp_path / 'b.yaml'}: note: holds no object, and is passed over"
    assert capsys.readouterr().out.splitlines() == [note, "1 ModelNode; no problem"]
    assert main(["-f", str(tmp_path), "--output", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["problems"], report["blank"]) == ([], [str(tmp_path / "b.yaml")])
    (tmp_path / "a.yaml").unlink()
    for path in (tmp_path, tmp_path / "b.yaml"):
        assert main(["-f", str(path)]) == 1
        wrong = f"no object is in {path}; write a ModelNode into a file that ends with .yaml, .yml or .json"
        assert capsys.readouterr().out.splitlines() == [wrong, note, "no valid object; 1 problem"]


def test_what_only_the_whole_can_tell_is_a_problem_of_the_field_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    policy = "---\napiVersion: weighbridge.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {name: p}\nspec:\n"
    path.write_text(f"{GOOD}{policy}  fallback: [{{model: z}}]\n")
    assert main(["-f", str(path)]) == 1
    expected = f"{path}:13:3: RoutePolicy p: spec.fallback: no node serves z; correct it, or add a node"
    assert capsys.readouterr().out.splitlines()[0] == expected


def test_an_object_of_another_namespace_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert main(["-f", str(tmp_path), "--namespace", "ours"]) == 1
    assert "metadata.namespace: this gateway serves namespace ours, not default; move it" in capsys.readouterr().out


def test_the_gateways_own_entrance_is_no_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("10.0.0.1", "127.0.0.1").replace("8000", "9000"))
    assert main(["-f", str(tmp_path)]) == 0
    assert main(["-f", str(tmp_path), "--port", "9000"]) == 1
    assert "is the gateway's own entrance; give the node's own" in capsys.readouterr().out


def test_what_may_be_right_elsewhere_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(GOOD.replace("10.0.0.1", "nowhere.invalid"))
    assert main(["-f", str(path)]) == 0
    text = "ModelNode a: spec.address.host: no address is known for nowhere.invalid; correct it, or the DNS"
    assert capsys.readouterr().out == f"{path}:6:13: warning: {text}\n1 ModelNode; no problem, 1 warning\n"
    assert main(["-f", str(path), "--output", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is True
    assert [problem["local"] for problem in report["problems"]] == [True]


def secret(name: str, **entries: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries})


def test_the_secrets_of_the_entrance_are_checked_with_its_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.touch(mode=0o600)
    path.write_text(
        "\n---\n".join([GOOD, secret("callers", a="k", b="k", c=""), secret("tls", **{"tls.crt": "x", "tls.key": "y"})])
    )
    assert main(["-f", str(path)]) == 0
    capsys.readouterr()
    assert main(["-f", str(path), "--keys-secret", "callers", "--entrance-tls-secret", "tls"]) == 1
    told = [line.split(": ", 1)[-1] for line in capsys.readouterr().out.splitlines()]
    tls = "Secret tls: for --entrance-tls-secret"
    assert told[:-1] == [
        "Secret callers: stringData.b: has the same key as a; give it a key of its own: it lets nobody in",
        "Secret callers: stringData.c: is empty; give it a key of its own: it lets nobody in",
        f"{tls} tls.crt holds no certificate in PEM form that can be read; make it of type kubernetes.io/tls",
        f"{tls} tls.key holds no private key in PEM form, without a password; make it of type kubernetes.io/tls",
    ]
    assert main(["-f", str(path), "--keys-secret", "nobody"]) == 1
    line = "--keys-secret: there is no Secret default/nobody; add it to the files, or correct the name"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_the_files_of_prometheus_are_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    flags = ["--prometheus", "http://p:9090", "--prometheus-token-file", str(tmp_path / "none")]
    assert main(["-f", str(tmp_path), *flags]) == 1
    line = f"--prometheus-token-file: there is no file {tmp_path / 'none'}"
    assert capsys.readouterr().out.splitlines()[0] == line
    (tmp_path / "none").write_text("x")
    assert main(["-f", str(tmp_path), *flags]) == 0


def test_a_good_certificate_passes_and_one_that_has_expired_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own = tmp_path / "a.yaml", Authority(tmp_path).sign("localhost")
    path.touch(mode=0o600)
    path.write_text(
        f"{GOOD}---\n{secret('tls', **{'tls.crt': own.certificate.read_text(), 'tls.key': own.key.read_text()})}"
    )
    for later, expected in ((0.0, "no problem"), (1000 * 86400.0, "no problem, 1 warning")):
        now = time.time() + later
        monkeypatch.setattr("weighbridge_operator.check.time.time", lambda now=now: now)
        assert main(["-f", str(path), "--entrance-tls-secret", "tls"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith(f"; {expected}")


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
