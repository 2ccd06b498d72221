"""Every example is valid as it stands and shows what it says it shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from weighbridge_operator.check import main
from weighbridge_operator.sources.files import Loaded, load

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))


def load_example(name: str, directory: Path) -> Loaded:
    path = directory / name
    shutil.copyfile(EXAMPLES / name, path)
    path.chmod(0o600)
    return load([path])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_valid_and_its_references_exist(name: str, tmp_path: Path) -> None:
    loaded = load_example(name, tmp_path)
    assert loaded.problems == ()
    desired = loaded.desired
    assert desired.nodes
    served = {(model.name, model.version) for node in desired.nodes for model in node.spec.models}
    names = {model for model, _ in served}
    for policy in desired.policies:
        spec = policy.spec
        wanted = {entry.model for entry in spec.fallback} | ({spec.default_model} if spec.default_model else set())
        assert wanted <= names
        assert {entry.version for entry in spec.versions} <= {version for _, version in served}
    for node in desired.nodes:
        if node.spec.credentials is not None:
            ref = node.spec.credentials.secret_ref
            assert ref.key in desired.secrets[node.metadata.namespace, ref.name]


def test_the_quickstart_is_short() -> None:
    lines = (EXAMPLES / "quickstart.yaml").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 10


def test_chat_has_three_nodes_a_canary_and_a_fallback(tmp_path: Path) -> None:
    desired = load_example("chat.yaml", tmp_path).desired
    assert len(desired.nodes) == 3
    (policy,) = desired.policies
    assert [entry.share for entry in policy.spec.versions] == [95, 5]
    assert policy.spec.fallback


def test_hosted_says_how_to_keep_its_key_private(tmp_path: Path) -> None:
    desired = load_example("hosted.yaml", tmp_path).desired
    assert [node.spec.format for node in desired.nodes] == ["anthropic", "openai"]
    for node in desired.nodes:
        assert node.spec.tls is not None
        assert node.spec.credentials is not None
    assert "chmod 600" in (EXAMPLES / "hosted.yaml").read_text()


WHOLE = [EXAMPLES, *sorted(path for path in EXAMPLES.rglob("*.yaml") if "weighbridge.dev/" in path.read_text())]


@pytest.mark.parametrize("path", WHOLE, ids=[str(path.relative_to(EXAMPLES)) for path in WHOLE])
def test_check_finds_nothing_wrong_with_an_example_as_it_lies_there(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-f", str(path)]) == 0
    assert "; no problem" in capsys.readouterr().out


def test_what_to_change_in_an_example_is_told() -> None:
    told = (EXAMPLES.parent / "docs" / "objects.md").read_text()
    assert all(f"[{name}](../examples/{name})" in told for name in NAMES)
