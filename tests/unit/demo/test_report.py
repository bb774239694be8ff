"""The report: one file that needs no network, with every figure and every line it promises."""

import json
import re
from datetime import timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from preprov.cli import common
from preprov.contracts import LeadObservation, PoolSnapshot
from preprov.demo.compare import LIVE, Agreement, Outcome, agreement, with_seen_leads
from preprov.demo.demonstration import Demonstration, Wishes
from preprov.demo.flow_runs import FlowRun
from preprov.demo.recorder import Recorder
from preprov.demo.report import Findings, pictures, render, row, verdict, write
from preprov.demo.scene import POOL, Scene, set_scene
from preprov.model.demand import DemandCurve
from preprov.model.offerings import LeadTime, Standby
from preprov.model.reference import reference_pool
from preprov.model.resources import Resources

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return set_scene(tmp_path_factory.mktemp("scene") / "demo", history=timedelta(days=2))


def outcome(name: str, wait: float, usd: float | None = 1.5) -> Outcome:
    return Outcome(name, 4, wait, 0.0, wait, 0.75, 4.0, usd and usd / 2, usd, (0.0, 0.0, 0.0, wait))


@pytest.fixture(scope="module")
def findings(scene: Scene) -> Findings:
    demand = np.ones((20, 30, 5), dtype=np.float32)
    curve = DemandCurve("demo", scene.evening, scene.evening, 3600, demand)
    snap = PoolSnapshot(
        "demo", scene.start, {"local": {"ready": 2}}, Resources(cpu=16), Resources(cpu=4), 0.8, 2, Resources()
    )
    return Findings(
        scene=scene,
        recorder=Recorder(),
        outcomes=[
            outcome(LIVE, 3.0),
            outcome("preprov", 2.0),
            outcome("reactive", 120.0),
            outcome("always-on", 0.0, 2.0),
        ],
        agreement=Agreement(0.05, -0.1, 1.0),
        flows=[FlowRun("forecast_demand", "0b1c", "Completed", "page", None)],
        snapshots=[snap],
        day_ahead=curve,
        at_start=curve,
        notes=["a note with <angles> & ampersands"],
    )


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return render(findings)


def test_the_report_stands_alone(page: str) -> None:
    assert "http" not in page
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == 5


def test_every_reference_within_a_picture_finds_its_end(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    wanted = set(re.findall(r'xlink:href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= set(ids)
    assert all(ids.count(i) == 1 for i in wanted)


def test_the_report_says_what_it_found(page: str) -> None:
    for text in (LIVE, "reactive", "always-on", "120 s", "75%", "0b1c", "a note with &lt;angles&gt; &amp; ampersands"):
        assert text in page


@pytest.mark.slow
def test_pictures_are_written_beside_it(findings: Findings, tmp_path: Path) -> None:
    path = write(findings, tmp_path / "out" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    names = {p.name for p in path.parent.glob("*.png")}
    assert names == {f"{n}.png" for n in pictures(findings, "png")}


def test_the_verdict_compares_with_reactive_and_always_on(findings: Findings) -> None:
    text = verdict(findings.outcomes, findings.agreement)
    assert "Live, 75% of 4 task instances had a node when they were ready; under a reactive autoscaler 75%" in text
    assert "waited 120 s or longer" in text
    assert "It cost 100% of what that would have and 75% of what a pool that is always on would have." in text
    assert "Live and replayed agree: cost +5%, node-hours -10%, mean wait +1 s" in text


def test_unknown_prices_are_said_to_be_unknown() -> None:
    assert row(outcome("preprov", 0.0, None))[-2:] == ("unknown", "unknown")


def test_agreement_is_a_share_of_the_replayed_figures() -> None:
    close = agreement(outcome(LIVE, 5.0, 1.8), outcome("preprov", 1.0, 1.5))
    assert close.usd == pytest.approx(0.2)
    assert close.node_hours == 0.0
    assert close.wait_mean_s == 4.0
    assert close.close
    assert not agreement(outcome(LIVE, 30.0, 1.5), outcome("preprov", 1.0, 1.5)).close


def test_lead_times_are_taken_from_what_was_seen_if_there_is_enough(scene: Scene) -> None:
    pool = reference_pool("demo")

    def seen(state: Standby, *seconds: float) -> list[LeadObservation]:
        return [
            LeadObservation(scene.start, "demo", "sim", "reference", "", "m7i.4xlarge", "", state, s, f"n{s}")
            for s in seconds
        ]

    leads = with_seen_leads(pool, [*seen(Standby.COLD, 60, 80, 100), *seen(Standby.STOPPED, 5)]).groups[0].lead
    assert leads[Standby.COLD].median_s == 80
    assert leads[Standby.COLD].p95_s == pytest.approx(
        80 * np.exp(1.645 * np.std(np.log([60, 80, 100]), ddof=1)), rel=1e-3
    )
    assert leads[Standby.STOPPED] == pool.groups[0].lead_time(Standby.STOPPED)
    assert isinstance(leads[Standby.HIBERNATED], LeadTime)


def test_the_json_is_what_its_schema_says(findings: Findings, tmp_path: Path) -> None:
    done = Demonstration(
        wishes=Wishes(tmp_path),
        outcomes=list(findings.outcomes),
        agreement=findings.agreement,
        flows=list(findings.flows),
        report=tmp_path / "report.html",
        seconds={"the report": 1.234567},
        notes=["a note"],
    )
    document = common.envelope("demo", POOL, findings.scene.start, done.as_dict())
    schema = json.loads((ROOT / "docs" / "reference" / "schemas" / "demo.json").read_text())
    jsonschema.validate(json.loads(json.dumps(document, default=str)), schema)
