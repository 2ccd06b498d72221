"""The console script: finds commands, imports little, and says in one line what it cannot do."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from weighbridge_api.console import COMMANDS, main

CONSOLE = "import sys; from weighbridge_api.console import main; sys.exit(main())"


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{before}\n{CONSOLE}", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def test_help_names_every_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert shown.count(f"\n  {command.name} ") == 1
    assert main([]) == 0
    assert capsys.readouterr().out == shown


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"weighbridge {version('weighbridge')}\n"


@pytest.mark.parametrize(
    ("name", "remedy"), [("stauts", "did you mean status?"), ("xyzzy", "--help"), ("--frobnicate", "--help")]
)
def test_an_unknown_command_is_refused_with_a_suggestion(
    name: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert remedy in error


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_there(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_help_and_crds_import_no_plane() -> None:
    planes = ("weighbridge_operator", "weighbridge_dataplane", "weighbridge_simulator")
    before = "import sys\n" + "".join(f"sys.modules[{plane!r}] = None\n" for plane in planes)
    for arguments in (["--help"], ["crds"]):
        done = run(*arguments, before=before)
        assert done.returncode == 0, done.stderr


def test_a_missing_package_is_one_line_with_the_remedy() -> None:
    done = run("simulate", "--help", before="import sys; sys.modules['httptools'] = None")
    assert done.returncode == 2
    assert done.stderr == "weighbridge simulate needs the package httptools: pip install 'weighbridge[standalone]'\n"


def test_an_error_of_ours_is_not_taken_for_a_missing_package() -> None:
    done = run("crds", before="import sys; sys.modules['weighbridge_api.crd'] = None")
    assert "Traceback" in done.stderr


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE, "crds"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(30) == 141
    process.stderr.close()


def test_an_interrupt_ends_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("weighbridge_api.crds_command.main", interrupt)
    assert main(["crds"]) == 130


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "weighbridge_api.console", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("weighbridge ")
