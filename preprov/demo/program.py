"""The program inside the demonstration's image: it does tonight's work of one task instance.

Runs on a node, from the image on the node's disk, with the standard library alone. How much there is to do stands in
the dataset on the node's disk; where both are, the node says in the environment.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

INPUT = "tonight.json"


def main() -> int:
    """Take the time, the memory and a little of the processor that tonight's input says; 0 if all went well."""
    run_id, task = os.environ["PREPROV_RUN_ID"], os.environ["PREPROV_TASK_ID"]
    tonight = json.loads(Path(os.environ["PREPROV_DATASET"], INPUT).read_text())
    # a scheduled run is known by its DAG and turn; the rest of its id was made by the store
    work = tonight["runs"].get(run_id) or tonight["runs"].get(run_id.rpartition(".")[0])
    if work is None:
        sys.stderr.write(f"there is no input for {run_id}\n")
        return 1
    end = time.monotonic() + work[task]
    held = bytearray(int(tonight["mib"] * 1024 * 1024))
    while time.process_time() < work[task] * tonight["cpu"] and time.monotonic() < end:
        held[:32] = hashlib.sha256(held).digest()
    time.sleep(max(end - time.monotonic(), 0.0))
    sys.stdout.write(f"{task} of {run_id}: done after {work[task]:.2f} s of wall time\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
