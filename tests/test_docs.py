"""README and docs say what is so: every field, command, flag, target, file, metric and dependency."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from weighbridge_api import conditions
from weighbridge_api.console import COMMANDS, main
from weighbridge_dataplane.records import Levels, Records
from weighbridge_operator.views import metrics, traffic

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


def test_links_into_pages_find_their_heading() -> None:
    wrong = []
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            target = (page.parent / name).resolve() if name else page
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                wrong.append(f"{page.name}: {name}#{anchor}")
    assert wrong == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    told = set(re.findall(r"\]\(([\w-]+\.md)\)", index.read_text()))
    assert told == {page.name for page in PAGES if page.parent.name == "docs"} - {index.name}


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
    locks = "".join((ROOT / place / "requirements.lock").read_text() for place in (".", "bench", "tests/clients"))
    locked = {normal(name) for name in re.findall(r"^([\w.-]+)==", locks, re.M)}
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    assert {normal(re.split(r"[<>=\[ ]", one)[0]) for one in every} - {"weighbridge"} <= locked, "run: make lock"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_metric_is_told_and_no_other() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    source = Path(metrics.__file__).read_text()
    families = set(re.findall(r'"(weighbridge_\w+)"', source)) | {family.name for family in traffic.FAMILIES}
    printed = Records().print_metrics(Levels(oldest=1.0, counts=1.0, peers=1, peers_told=1, peer_envoys=1), 0.0)
    families |= set(re.findall(r"^# TYPE (weighbridge_\w+)", printed, re.MULTILINE))
    assert len(families) > 20
    assert set(re.findall(r"`(weighbridge_\w+)`", page)) == families


def test_every_reason_of_a_condition_is_told_once_and_no_other() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rooms = [
        ROOT / "operator/weighbridge_operator/conditions.py",
        *(ROOT / "operator/weighbridge_operator/core").glob("*.py"),
    ]
    reasons = {reason for room in rooms for reason in find_reasons(room)}
    assert {"Stale", "NoEnvoy", "SecretNotFound", "VersionNotServed"} <= reasons
    (fine,) = re.findall(r"^.*Reasons that need nothing done: (.*)\.$", page, re.MULTILINE)
    table = page[page.index("## Conditions") : page.index("### Prometheus")]
    rows = re.findall(r"^\| (?:`\w+` )?\| `(\w+)` \|", table, re.MULTILINE)
    told = [*re.findall(r"`(\w+)`", fine), *rows]
    assert sorted(told) == sorted(reasons)
    types = (conditions.ACCEPTED, conditions.RESOLVED_REFS, conditions.PROGRAMMED, conditions.METRICS_FRESH)
    assert [name for name in (*types, conditions.READY) if f"| `{name}` |" not in page] == []


def test_every_code_of_an_answer_is_told() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    told = set(re.findall(r"^\| [\dx, ]+ \| ((?:`\w+`(?:, )?)+) \|", page, re.MULTILINE))
    codes = {code for cell in told for code in re.findall(r"`(\w+)`", cell)}
    rooms = ROOT / "operator/weighbridge_operator/xds"
    words = (rooms / "answers.py").read_text() + (rooms / "replies.py").read_text()
    made = set(re.findall(r', "([a-z_]+)"(?=\)|, param=|, \d|, api|, kind)', words))
    scripts = "".join(path.read_text() for path in sorted(rooms.glob("*.lua")))
    made |= set(re.findall(r'refuse\(handle, .*"(\w+)"\)', scripts))
    assert {"timeout", "invalid_api_key", "request_too_large", "duplicate_key", "model_not_found"} <= made
    assert codes == made


def test_words_about_prometheus_are_told_as_they_are_said() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    table = page[page.index("### Prometheus") : page.index("## What callers get")]
    quotes = {
        quote for cell in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE) for quote in re.findall("`(.+?)`", cell)
    }
    sources = "".join(path.read_text() for path in (ROOT / "operator/weighbridge_operator/sources").glob("*.py"))
    # What stands for a name or a number is not in the code.
    fixed = {
        words for quote in quotes for words in re.split(r"Prometheus HOST:PORT |the query for cpu |[\d{.:]+", quote)
    }
    assert len(quotes) > 6
    assert [words for words in fixed if words.count(" ") > 1 and words.strip() not in sources] == []


def find_reasons(source: Path) -> set[str]:
    """Words where reasons are given: in reports, findings, notes, constants, and what is unpacked into `reason`."""
    reasons = set()
    for found in ast.walk(ast.parse(source.read_text())):
        match found:
            case ast.Call(
                func=ast.Name(id="ConditionReport" | "Finding" | "lack" | "_from_findings")
                | ast.Attribute(attr="_note"),
                args=args,
            ):
                given = args
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=value) if "reason" in [
                ast.unparse(n) for n in names
            ]:
                given = [each for part in ast.walk(value) if isinstance(part, ast.Tuple) for each in part.elts]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() as value) if name.isupper():
                given = [value]
            case _:
                continue
        words = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        reasons |= {word for word in words if re.fullmatch(r"([A-Z][a-z]+)+", word)}
    return reasons - {"True", "False", "Unknown"}
