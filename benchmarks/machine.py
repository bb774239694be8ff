"""What a figure was measured on, and where the public traces are."""

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """Processor, cores, memory, Python: named beside every figure."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def traces() -> Path | None:
    """The folder of public traces: $PREPROV_TRACES, ./traces, ../shared/data; None if there is none."""
    named = os.environ.get("PREPROV_TRACES")
    for place in [Path(named)] if named else [Path("traces"), Path("../shared/data")]:
        if place.is_dir():
            return place
    return None
