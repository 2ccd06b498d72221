"""The chart, rendered by the real helm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster import CHART, find, run

Json = dict[str, Any]


def need_helm() -> str:
    """The path of helm; where there is none, the test says so and is not run."""
    helm = find("helm")
    if helm is None:
        pytest.skip("not run: there is no helm; put it on PATH or name it in HELM")
    return helm


def render(*flags: str, values: Path | None = None) -> list[Json]:
    """The objects of a release `weighbridge` in the namespace `weighbridge`. Raises CommandError."""
    given = [f"--values={values}"] if values else []
    text = run(need_helm(), "template", "weighbridge", str(CHART), "--namespace=weighbridge", *given, *flags)
    return [each for each in yaml.safe_load_all(text) if each]


def pick(objects: list[Json], kind: str, name: str) -> Json:
    """The one with this kind and name."""
    return next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
