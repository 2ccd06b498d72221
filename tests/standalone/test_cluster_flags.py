"""Flags that say where the operator finds its objects: in files or in a cluster, each mistake in words."""

from __future__ import annotations

import re

import pytest

from weighbridge_operator import cli
from weighbridge_operator.settings import ALL, KubernetesSettings


def read(*flags: str) -> KubernetesSettings | None:
    options = cli._parser("operator").parse_args(flags)
    return cli._read_settings("operator", options).kubernetes


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "gateway")
    monkeypatch.setenv("POD_NAME", "operator-0")


def test_the_pod_says_whose_gateway_it_is() -> None:
    assert read("--kubernetes") == KubernetesSettings("gateway", "operator-0", ("gateway",))


def test_a_flag_wins_over_the_pod_and_other_namespaces_are_read_beside_it() -> None:
    settings = read("--kubernetes", "--namespace", "a", "--watch-namespace", "c", "--watch-namespace", "b")
    assert settings is not None
    assert (settings.namespace, settings.watch) == ("a", ("a", "b", "c"))


def test_a_star_is_every_namespace() -> None:
    settings = read("--kubernetes", "--watch-namespace", "*", "--envoys-service", "weighbridge-envoys")
    assert settings is not None
    assert (settings.watch, settings.envoys) == ((ALL,), "weighbridge-envoys")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-f", ".", "--watch-namespace", "a"], "--watch-namespace means something only with --kubernetes"),
        (["-f", ".", "--envoys-service", "a"], "--envoys-service means something only with --kubernetes"),
        (["--kubernetes", "--state", "x"], "--state is for files"),
        (["--kubernetes", "--watch-namespace", "a", "--watch-namespace", "*"], "leave the others out"),
        (["--kubernetes", "--watch-namespace", "Team A"], "--watch-namespace 'Team A' is not a namespace; use lower"),
        (["--kubernetes", "--envoys-service", "a_b"], "--envoys-service 'a_b' is not a name that Kubernetes accepts"),
        (["--kubernetes", "--namespace", "a" * 64], "is longer than 63 characters"),
    ],
)
def test_what_means_nothing_is_refused_in_words(flags: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read(*flags)


def test_a_gateway_must_know_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAMESPACE")
    with pytest.raises(ValueError, match="Say --namespace, or set POD_NAMESPACE"):
        read("--kubernetes")


@pytest.mark.parametrize("flags", [["-f", ".", "--kubernetes"], []])
def test_objects_come_from_one_place(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read(*flags)
    assert "--kubernetes" in capsys.readouterr().err
