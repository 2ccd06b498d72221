"""The shape of the repository: source roots, sizes, and nothing that belongs to one machine."""

from __future__ import annotations

import ast
import operator
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What a line may not hold: home directories, where somebody's checkout lies, where packages come from.
OF_A_MACHINE = re.compile(
    r"(?<![\w.<])/(home|root|work|Users)/\w|https?://[\w.-]*(pypi|pythonhosted|artifactory|nexus)[\w.]*"
)
MOST_LINES, MOST_FUNCTION = 300, 40


def list_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # no repository: an unpacked archive
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


FILES = list_files()
SOURCES = [path for path in FILES if path.suffix == ".py"]


def find_functions(source: Path) -> Iterator[tuple[str, int]]:
    for found in ast.walk(ast.parse(source.read_text())):
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
            yield found.name, (found.end_lineno or 0) - found.lineno + 1


@pytest.mark.parametrize("root", ["operator", "dataplane"])
def test_source_roots_are_no_packages(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


def test_operator_is_the_standard_librarys() -> None:
    assert Path(operator.__file__).is_relative_to(sysconfig.get_paths()["stdlib"])


def test_every_package_is_in_the_wheel() -> None:
    packages = {
        str(path.parent.relative_to(ROOT))
        for path in (*ROOT.glob("operator/*/__init__.py"), *ROOT.glob("dataplane/*/__init__.py"))
    }
    told = (ROOT / "pyproject.toml").read_text()
    assert packages
    assert [package for package in sorted(packages) if f'"{package}"' not in told] == []


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 100


def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length >= MOST_LINES} == {}


def test_functions_stay_short() -> None:
    every = {f"{path.relative_to(ROOT)}: {name}": length for path in SOURCES for name, length in find_functions(path)}
    assert {name: length for name, length in every.items() if length >= MOST_FUNCTION} == {}


def test_every_module_says_its_theory() -> None:
    packages = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("operator", "dataplane")]
    assert [str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_belongs_to_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in FILES
        if path.name not in ("requirements.lock", "test_layout.py", "test_docs.py")
        and path.suffix not in (".key", ".crt")
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if OF_A_MACHINE.search(line)
    ]
    assert found == []


def test_the_lock_names_no_registry() -> None:
    assert not re.search(r"https?://|--index-url|--extra-index-url", (ROOT / "requirements.lock").read_text())
