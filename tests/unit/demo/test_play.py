"""A few minutes of the night on real nodes, and the folder it all lives in."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from preprov import configfile
from preprov.app import open_app
from preprov.clocks import ScaledClock
from preprov.control.ingesting import ingest_work
from preprov.demo.compare import live_outcome
from preprov.demo.demonstration import clear
from preprov.demo.history import HistorySource
from preprov.demo.live import Play, end_nodes, watched
from preprov.demo.recorder import Recorder
from preprov.demo.scene import POOL, Nodes, set_scene, surroundings, wipe
from preprov.demo.view import LinesView, ScreenView
from preprov.model.errors import ConfigError
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode
from preprov.settings import Settings


def test_a_scene_is_a_folder_with_a_configuration_that_can_be_read(tmp_path: Path) -> None:
    scene = set_scene(tmp_path / "demo", history=timedelta(days=1))
    pool = configfile.load(scene.config).pools()[POOL]
    assert pool.mode is Mode.FULL
    assert pool.groups[0].standby_states == {Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED}
    assert pool.preload == scene.kit.preload
    assert all(t.images == (scene.kit.image,) for d in scene.specs.values() for t in d.tasks)


def test_in_a_cloud_it_may_act_from_its_first_night(tmp_path: Path) -> None:
    cloud = Nodes("gcp", "vms", "n2-standard-8", "z", 'project = "acme"\nzone = "z"\nmig = "nodes"\n')
    scene = set_scene(tmp_path / "demo", history=timedelta(days=1), nodes=cloud)
    pool = configfile.load(scene.config).pools()[POOL]
    assert pool.gate is not None
    assert (pool.gate.floor_nights, pool.gate.full_nights) == (0, 0)


def test_the_same_scene_has_the_same_image_and_data(tmp_path: Path) -> None:
    one = set_scene(tmp_path / "a", history=timedelta(days=1))
    two = set_scene(tmp_path / "b", history=timedelta(days=1))
    assert one.kit.image.digest == two.kit.image.digest
    assert one.kit.dataset.sha256 == two.kit.dataset.sha256
    assert one.tonight[0].seconds.tolist() == two.tonight[0].seconds.tolist()


def test_an_earlier_scene_is_replaced_but_nothing_else_is(tmp_path: Path) -> None:
    first = set_scene(tmp_path / "demo", history=timedelta(days=1))
    (first.home / "rubbish").touch()
    set_scene(tmp_path / "demo", history=timedelta(days=1))
    assert not (first.home / "rubbish").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="no demonstration made"):
        set_scene(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()
    with pytest.raises(ConfigError):
        wipe(tmp_path / "mine")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_wave_is_played_on_real_nodes_that_are_gone_afterwards(tmp_path: Path) -> None:
    scene = set_scene(tmp_path / "demo", minutes=8, speed=40, history=timedelta(days=4))
    lines: list[str] = []
    screen = Console(file=io.StringIO(), width=120, record=True)
    plain, drawn = LinesView(lines.append, "Europe/Zurich"), ScreenView(screen, "Europe/Zurich")

    def show(play: Play) -> None:
        plain.show(play)
        screen.print(drawn.screen(play, play.ctx.clock.now()))

    with surroundings(scene.environment()):
        settings = Settings.load()
        with open_app(settings) as app:
            ingest_work(app.ctx, POOL, HistorySource(scene.workload, scene.specs, scene.start))
        with open_app(settings, clock=ScaledClock(scene.start, scene.speed)) as app:
            recorder, pool = Recorder(), app.ctx.pool(POOL)
            play = Play(watched(app, recorder), pool, recorder, scene.start, scene.end, scene.tonight, scene.specs)
            try:
                play.declare()
                play.run(show, every_s=0.5)
            finally:
                ended = end_nodes(app.ctx, pool)
            assert not app.ctx.provider("local").observe(pool).nodes
    instances = recorder.instances()
    assert ended > 0
    told = "\n".join(lines)
    assert "launch" in told
    assert "tasks: 0 running, 0 waiting, 0 done; 0." in told
    text = screen.export_text()
    for part in ("02:00 platform.metrics", "in 3:", "what was done, and why", "40 x"):
        assert part in text
    assert any(r.action.kind is ActionKind.LAUNCH for r in recorder.records)
    assert len(instances) >= 10
    assert {i.exit_code for i in instances if i.ended is not None} == {0}
    assert all(i.placed >= i.ready - timedelta(seconds=60) for i in instances)
    live = live_outcome(recorder, pool, scene)
    assert live.usd is not None
    assert 0 < live.usd < 5
    assert live.idle_usd is not None
    assert live.idle_usd < live.usd
    clear(scene.home)
    wipe(scene.home)
    assert not scene.home.exists()
