"""The key by which nodes know this controller."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from preprov.launch.identity import Identity


def test_who_asks_at_once_gets_the_same_key(tmp_path: Path) -> None:
    """Several launches begin side by side on a machine that has none yet."""
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return Identity(tmp_path).certificate

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    (file,) = (tmp_path / "keys").iterdir()
    assert file == Identity(tmp_path).file
    assert file.stat().st_mode & 0o777 == 0o600
