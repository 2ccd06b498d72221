"""README and docs say what is so: every field, command, flag, target, file, metric and dependency."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.fields import write_tables
from weighbridge_api import conditions
from weighbridge_api.console import COMMANDS, main
from weighbridge_operator.views import metrics

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands() -> list[tuple[str, ...]]:
    """Each `weighbridge ...` of the pages: the command, then its flags."""
    found: dict[tuple[str, ...], None] = {}
    for page in PAGES:
        for name, rest in re.findall(
            r"(?:^|`)weighbridge ([a-z]+)(?= |$|`)([^`\n|#]*)", page.read_text(), re.MULTILINE
        ):
            found[name, *sorted(set(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest)))] = None
    return list(found)


def test_objects_are_described_field_by_field() -> None:
    page = (ROOT / "docs" / "objects.md").read_text()
    assert page == write_tables(page), "run: PYTHONPATH=tests python -m support.fields docs/objects.md"
    assert "`spec.address.host`" in page
    assert "`spec.timeouts.firstToken`" in page


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_the_pages_exist(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    name, *flags = command
    assert name in {known.name for known in COMMANDS}
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", shown)] == [], shown


def test_every_command_is_told() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [c.name for c in COMMANDS if f"weighbridge {c.name}" not in readme and c.name != "demo"] == []


def test_targets_of_the_pages_exist() -> None:
    rules = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {t for page in PAGES for t in re.findall(r"(?:^|`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)}
    assert {"demo", "test"} <= told <= rules


def test_links_and_files_of_the_pages_exist() -> None:
    for page in PAGES:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
        for path in re.findall(r"`((?:tests|bench|examples|crds|docs)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_no_page_names_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(home|root|work|Users)/|pypi\.org|index-url", page.read_text()), page.name


def test_every_dependency_has_its_reason() -> None:
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    names = {re.split(r"[<>=\[ ]", one)[0] for one in every} - {"weighbridge"}
    told = set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE))
    assert told == names


def test_every_direct_dependency_is_locked() -> None:
    locked = {normal(name) for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M)}
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    assert {normal(re.split(r"[<>=\[ ]", one)[0]) for one in every} - {"weighbridge"} <= locked, "run: make lock"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_metric_and_condition_is_told() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    source = Path(metrics.__file__).read_text()
    assert [name for name in re.findall(r'"(weighbridge_\w+)"', source) if f"`{name}`" not in page] == []
    types = (conditions.ACCEPTED, conditions.RESOLVED_REFS, conditions.PROGRAMMED, conditions.METRICS_FRESH)
    assert [name for name in (*types, conditions.READY) if f"`{name}`" not in page] == []


def test_every_reason_of_a_condition_is_told() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rooms = [
        ROOT / "operator/weighbridge_operator/conditions.py",
        *(ROOT / "operator/weighbridge_operator/core").glob("*.py"),
    ]
    reasons = {reason for room in rooms for reason in find_reasons(room)}
    assert {"Stale", "NoEnvoy", "SecretNotFound", "VersionNotServed"} <= reasons
    assert sorted(reason for reason in reasons if f"`{reason}`" not in page) == []


def find_reasons(source: Path) -> set[str]:
    """Words that stand where reasons are given: in reports, findings, notes, and what is unpacked into `reason`."""
    reasons = set()
    for found in ast.walk(ast.parse(source.read_text())):
        match found:
            case ast.Call(
                func=ast.Name(id="ConditionReport" | "Finding" | "lack") | ast.Attribute(attr="_note"), args=args
            ):
                given = args
            case ast.Assign(targets=[ast.Tuple(elts=[_, ast.Name(id="reason"), *_])], value=ast.Tuple(elts=given)):
                pass
            case _:
                continue
        words = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        reasons |= {word for word in words if re.fullmatch(r"([A-Z][a-z]+)+", word)}
    return reasons - {"True", "False", "Unknown"}
