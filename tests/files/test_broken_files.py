"""Each broken file gives one line: place, field, what is wrong, what to change. `broken/expected.txt` has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from weighbridge_operator.sources.files import load

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(path.name for path in BROKEN.glob("*.yaml"))
EXPECTED = dict(line.split(":", 1) for line in (BROKEN / "expected.txt").read_text().splitlines())


def test_every_broken_file_has_an_expected_line_and_there_are_at_least_thirty() -> None:
    assert sorted(EXPECTED) == FILES
    assert len(FILES) >= 30


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_gives_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(BROKEN / name, tmp_path / name)
    # The mode that a checkout gives depends on the machine.
    (tmp_path / name).chmod(0o644 if name == "secret-readable-by-others.yaml" else 0o600)
    monkeypatch.chdir(tmp_path)
    loaded = load([Path(name)])
    assert [str(problem) for problem in loaded.problems] == [f"{name}:{EXPECTED[name]}"]
    (problem,) = loaded.problems
    assert problem.line >= 1
    assert problem.remedy
    assert "\n" not in str(problem)


#: A file that is no text has no documents.
NO_TEXT = {"not-utf-8.yaml", "utf-16.yaml", "control-character.yaml"}


@pytest.mark.parametrize("name", sorted(set(FILES) - NO_TEXT))
def test_a_broken_document_leaves_the_one_before_and_the_one_after_valid(name: str, tmp_path: Path) -> None:
    whole = (BROKEN / name).read_bytes()
    path = tmp_path / "all.yaml"
    path.write_bytes(b"\n---\n".join([_node("before"), whole, _node("after")]))
    assert {"before", "after"} <= {node.metadata.name for node in load([path]).desired.nodes}


def _node(name: str) -> bytes:
    return f"""apiVersion: weighbridge.dev/v1alpha1
kind: ModelNode
metadata: {{name: {name}}}
spec:
  engine: vllm
  address: {{host: 10.0.0.1, port: 8000}}
  models: [{{name: m}}]
""".encode()
