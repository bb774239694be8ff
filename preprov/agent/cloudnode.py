"""`python -m preprov.agent cloud [FILE]`: be a node of a cloud as the settings in that file say, until told to end.

The file is JSON. Beside `carrier.Settings` it may have `cloud` ("aws", "gcp", "azure"; else the firmware says), and
`metadata` and `api`, URLs instead of the cloud's own.
"""

import json
import random
import signal
import sys
import threading
from pathlib import Path

from preprov.agent import proc
from preprov.agent.carrier import Carrier, say, settings_of
from preprov.agent.clouds import CloudError, letterbox

SETTINGS = Path("/etc/preprov/agent.json")


def main(argv: list[str]) -> int:
    """Serve; 0 = told to end, 2 = the settings are wrong."""
    file = Path(argv[0]) if argv else SETTINGS
    try:
        raw = json.loads(file.read_text()) if argv or file.exists() else {}
        box = letterbox(*(str(raw.pop(k, "")) for k in ("cloud", "metadata", "api")))
        settings = settings_of(raw)
    except (OSError, ValueError, TypeError, CloudError) as e:
        sys.stderr.write(f"{file}: {e}\n")
        return 2
    proc.name_me("preprov-node")
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    carrier = Carrier(box, settings)
    while not over.is_set():
        try:
            carrier.round()
        except Exception as e:  # whatever it was, the node is not given up: the next round begins anew
            say(f"{type(e).__name__}: {e}")
        over.wait(settings.poll_s * (0.9 + random.random() / 5))  # noqa: S311 - nodes that boot together drift apart
    carrier.close()
    return 0
