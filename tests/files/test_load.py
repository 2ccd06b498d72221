"""What files ask for, and what is held when they cannot be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from weighbridge_operator.sources.files import Loaded, load
from weighbridge_operator.state import Ref

A = Ref("ModelNode", "default", "a")
B = Ref("ModelNode", "default", "b")


def node(name: str, *, port: object = 8000, namespace: str = "default") -> str:
    return f"""---
apiVersion: weighbridge.dev/v1alpha1
kind: ModelNode
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  engine: vllm
  address: {{host: 10.0.0.1, port: {port}}}
  models: [{{name: m}}]
"""


SECRET = """---
apiVersion: v1
kind: Secret
metadata: {name: provider}
stringData: {apiKey: correct-horse}
data: {ca.crt: aGVsbG8=}
"""


def ports(loaded: Loaded) -> dict[str, int]:
    return {found.metadata.name: found.spec.address.port for found in loaded.desired.nodes}


def test_files_of_a_directory_are_one_sorted_state(tmp_path: Path) -> None:
    (tmp_path / "z.yaml").write_text(node("b") + node("a", namespace="team"))
    (tmp_path / "a.yml").write_text(node("c"))
    (tmp_path / "p.json").write_text(
        '{"apiVersion": "weighbridge.dev/v1alpha1", "kind": "RoutePolicy", "metadata": {"name": "p"}}'
    )
    (tmp_path / "notes.txt").write_text("not: [yaml")
    (tmp_path / ".hidden.yaml").write_text("not: [yaml")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.yaml").write_text(node("d"))
    loaded = load([tmp_path])
    assert [found.id for found in loaded.desired.nodes] == ["default/b", "default/c", "team/a"]
    assert [policy.metadata.name for policy in loaded.desired.policies] == ["p"]
    assert loaded.problems == ()
    assert loaded.rejections == ()


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(node("a"))
    assert load([tmp_path, tmp_path / "a.yaml"]).problems == ()


def test_an_invalid_object_disturbs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", port="x") + node("b"))
    loaded = load([path])
    assert ports(loaded) == {"b": 8000}
    (rejection,) = loaded.rejections
    assert (rejection.ref, rejection.held) == (A, False)
    assert "spec.address.port" in rejection.message


def test_an_object_that_turns_invalid_keeps_its_last_good_form(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", port=1) + node("b", port=1))
    before = load([path])
    path.write_text(node("a", port="x") + node("b", port=2))
    broken = load([path], before.objects)
    assert ports(broken) == {"a": 1, "b": 2}
    assert [(each.ref, each.held) for each in broken.rejections] == [(A, True)]
    again = load([path], broken.objects)
    assert again == broken
    path.write_text(node("a", port=3) + node("b", port=2))
    assert load([path], again.objects) == load([path])


def test_a_secret_that_turns_invalid_says_that_its_last_form_is_used(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.touch(mode=0o600)
    good = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {alice: k}\n"
    path.write_text(good)
    before = load([path])
    for bad in (good.replace("{alice: k}", "3"), good + "}"):
        path.write_text(bad)
        broken = load([path], before.objects)
        assert broken.desired.secrets == before.desired.secrets
        held = f"{path}: Secret keys: cannot be used as it is now; its last valid form is still used"
        assert held in [str(problem) for problem in broken.problems]
        assert held not in [str(problem) for problem in load([path]).problems]
        assert load([path], broken.objects) == broken


def test_a_file_that_cannot_be_parsed_keeps_all_its_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a") + node("b"))
    before = load([path])
    path.write_text((node("a") + node("b"))[:-30])
    half = load([path], before.objects)
    assert ports(half) == {"a": 8000, "b": 8000}
    assert [(each.ref, each.held) for each in half.rejections] == [(B, True)]
    assert "a.yaml:" in half.rejections[0].message


def test_an_object_removed_from_a_file_is_gone_and_so_are_those_of_a_removed_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(node("a") + node("b"))
    (tmp_path / "c.yaml").write_text(node("c"))
    before = load([tmp_path])
    (tmp_path / "a.yaml").write_text(node("b"))
    (tmp_path / "c.yaml").unlink()
    after = load([tmp_path], before.objects)
    assert after == load([tmp_path])
    assert set(ports(after)) == {"b"}


def test_a_file_that_was_emptied_keeps_its_objects_until_it_says_something(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(node("a"))
    before = load([tmp_path])
    file.write_text("")  # what the shell does at once for `generate > a.yaml`
    after = load([tmp_path], before.objects)
    assert set(ports(after)) == {"a"}
    assert [each.held for each in after.rejections] == [True]
    assert "a.yaml: is empty; remove it, or write a comment" in str(after.problems[0])
    file.write_text("# none\n")
    assert load([tmp_path], after.objects) == load([tmp_path]) == Loaded()


@pytest.mark.parametrize("named", ["directory", "file"])
def test_a_vanished_directory_removes_nothing_but_a_vanished_file_does(tmp_path: Path, named: str) -> None:
    directory = tmp_path / "conf"
    directory.mkdir()
    (directory / "a.yaml").write_text(node("a"))
    path = directory if named == "directory" else directory / "a.yaml"
    before = load([path])
    (directory / "a.yaml").unlink()
    directory.rmdir()
    after = load([path], before.objects)
    assert set(ports(after)) == ({"a"} if named == "directory" else set())
    assert [each.held for each in after.rejections] == ([True] if named == "directory" else [])
    assert "no such file or directory" in str(after.problems[0])


def test_the_current_directory_is_held_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(node("a"))
    before = load([Path()])
    assert str(next(iter(before.objects.values())).file) == "a.yaml"
    Path("a.yaml").write_text("a: [")
    assert set(ports(load([Path()], before.objects))) == {"a"}


def test_an_object_in_two_places_is_refused_naming_both_and_held(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(node("a", port=1))
    before = load([tmp_path])
    (tmp_path / "2.yaml").write_text(node("b") + node("a", port=2))
    double = load([tmp_path], before.objects)
    assert ports(double) == {"a": 1, "b": 8000}
    first, second = (str(problem) for problem in double.problems)
    assert "1.yaml:2:1: ModelNode a: is also in" in first
    assert "2.yaml:10; remove one" in first
    assert "1.yaml:2; remove one" in second
    assert "a" not in ports(load([tmp_path]))


def test_equal_names_in_two_namespaces_are_two_objects(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(node("a") + node("a", namespace="team"))
    assert load([tmp_path]).problems == ()


def test_secrets_are_read_from_private_files_only(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SECRET + node("a"))
    path.chmod(0o640)
    refused = load([path])
    assert refused.desired.secrets == {}
    assert set(ports(refused)) == {"a"}
    assert f"chmod 600 {path}" in str(refused.problems[0])
    path.chmod(0o600)
    entries = {"apiKey": b"correct-horse", "ca.crt": b"hello"}
    assert load([path]).desired.secrets == {("default", "provider"): entries}


def test_no_message_and_no_repr_holds_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SECRET.replace("apiKey: correct-horse", "apiKey: [correct-horse]").replace("ca.crt", "c a"))
    path.chmod(0o600)
    loaded = load([path])
    assert loaded.problems
    assert "horse" not in f"{loaded}{loaded.problems}"
    path.write_text(SECRET)
    assert "horse" not in f"{load([path])!r} {load([path]).desired!r} {list(load([path]).objects.values())!r}"


@pytest.mark.parametrize("what", ["directory", "loop", "pipe", "socket", "dangling", "locked"])
def test_what_is_no_file_is_said_and_stops_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.yaml"
    server = socket.socket(socket.AF_UNIX)
    match what:
        case "directory":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            server.bind(os.path.relpath(path))
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "locked":
            path.symlink_to("/proc/self/mem")
    (tmp_path / "a.yaml").write_text(node("a"))
    loaded = load([tmp_path])
    server.close()
    assert set(ports(loaded)) == {"a"}
    (problem,) = loaded.problems
    assert problem.file == str(path)
    assert problem.remedy


def test_a_swapped_directory_as_a_config_map_does_it(tmp_path: Path) -> None:
    for version, port in (("1", 1), ("2", 2)):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(node("a", port=port))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    before = load([tmp_path])
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert (ports(before), ports(load([tmp_path], before.objects))) == ({"a": 1}, {"a": 2})
