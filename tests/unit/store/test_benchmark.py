"""The benchmark of the sample store, made small."""

import json
from pathlib import Path

import pytest

from benchmarks import samples


def test_a_small_one_says_all_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples.main(["--million", "0.2", "--folder", str(tmp_path)])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert list(tmp_path.iterdir()) == []
    assert "append:" in err
    assert told["samples"] == 0.2e6 // samples.PER_RUN * samples.PER_RUN
    whole, thin = told["whole"], told["thinned"]
    assert whole["rows"] == told["samples"]
    assert thin["rows"] < whole["rows"] / 3
    assert thin["bytes"] < whole["bytes"] / 3
    for part in (whole, thin):
        asked = [v for k, v in part.items() if k.endswith("_s")]
        assert len(asked) == 4
        assert all(v > 0 for v in asked)
    assert told["append_samples_per_s"] > 1000
    assert 0 < told["peak_memory_gib"] < 4
