"""The examples for Prometheus and Grafana: valid, about metrics that exist, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from weighbridge_dataplane.records import Levels, Records
from weighbridge_operator.views import metrics, traffic

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "monitoring"
RULES = yaml.safe_load((EXAMPLES / "rules.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "dashboard.json").read_text())
TOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    TOOL is None, reason="not run: there is no promtool in PATH (Debian's package prometheus brings it)"
)


def promtool(*arguments: str) -> None:
    assert TOOL is not None
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


@needs_promtool
def test_rules_are_valid_and_alerts_fire_when_they_should() -> None:
    promtool("check", "rules", str(EXAMPLES / "rules.yaml"))
    promtool("test", "rules", str(Path(__file__).parent / "rules_test.yaml"))


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    tried = (Path(__file__).parent / "rules_test.yaml").read_text()
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) > 10
    assert [rule["alert"] for rule in alerts if f'alertname="{rule["alert"]}"' not in tried] == []
    assert all({"summary", "description"} <= set(rule["annotations"]) and rule["labels"] for rule in alerts)


def test_rules_and_panels_speak_of_metrics_that_exist() -> None:
    known = set(re.findall(r'"(weighbridge_\w+)"', Path(metrics.__file__).read_text()))
    known |= set(
        re.findall(r"^# TYPE (weighbridge_\w+)", Records().print_metrics(Levels(oldest=1.0), 0.0), re.MULTILINE)
    )
    for family in traffic.FAMILIES:
        parts = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        known |= {family.name + part for part in parts}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for text in (*(rule["expr"] for rule in rules()), *queries()):
        found = set(re.findall(r"[a-z_]+:[\w:]+|weighbridge_\w+", text))
        assert found, text
        assert found <= known | recorded, text


@needs_promtool
def test_queries_of_the_dashboard_can_be_asked(tmp_path: Path) -> None:
    assert len(queries()) > 20
    known = {"$__rate_interval": "1m", "$model": ".*", "$node": ".*"}
    asked = [re.sub(r"\$\w+", lambda name: known[name[0]], query) for query in queries()]
    records = [{"record": f"panel:{number}:query", "expr": query} for number, query in enumerate(asked)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    promtool("check", "rules", str(path))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert named == {"source", "model", "node"}


@needs_promtool
def test_the_configuration_is_valid_and_has_the_charts_rules(tmp_path: Path) -> None:
    config = yaml.safe_load((EXAMPLES / "prometheus.yaml").read_text())
    *_, envoys = config["scrape_configs"]
    chart = yaml.safe_load((ROOT / "helm" / "weighbridge" / "files" / "relabel.yaml").read_text())
    assert envoys["metric_relabel_configs"] == chart
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian builds its Prometheus without
    shutil.copyfile(EXAMPLES / "rules.yaml", tmp_path / "rules.yaml")
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    promtool("check", "config", str(tmp_path / "prometheus.yaml"))
