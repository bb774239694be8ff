"""The suite runs where nothing but the wheel of preprov is: the page's provider is tested there as its author would."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-pool-provider.md"


@pytest.mark.slow
def test_the_suite_runs_from_an_installed_package_outside_of_the_repository(tmp_path: Path) -> None:
    build = subprocess.run(
        [ROOT / "scripts" / "uv", "build", "--wheel", "--out-dir", tmp_path, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    site, mine = tmp_path / "site", tmp_path / "mine"
    mine.mkdir()
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    page = Path("preprov", "web", "page")
    assert {p.name for p in (site / page).iterdir()} == {p.name for p in (ROOT / page).iterdir()}
    for name, body in re.findall(r"^```python file=(\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        (mine / name).write_text(body)
    (mine / "test_where.py").write_text(
        f"import preprov\n\ndef test_where():\n    assert preprov.__file__.startswith({str(site)!r})\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "preprov.testing.pool_report", "-p", "no:cacheprovider", "."],
        cwd=mine,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "names_serving" in run.stdout
    assert "failed" not in run.stdout
