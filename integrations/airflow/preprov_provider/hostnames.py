"""The name under which a worker's tasks are told of: the node's own, so that their waits can be put down to it.

[core]
hostname_callable = preprov_provider.hostnames.node_name
"""

import os
import socket


def node_name() -> str:
    """``PREPROV_NODE_ID`` of the worker's environment, else the name of this host."""
    return os.environ.get("PREPROV_NODE_ID") or socket.gethostname()
