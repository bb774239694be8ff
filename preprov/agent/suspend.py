"""Hibernation: the process tree of an idle node stands still, its memory kept, until it is thawed from outside."""

import os
import signal

from preprov.agent import disk, proc
from preprov.agent.limits import Limits


def suspend(bounds: Limits) -> None:
    """Suspend the node this process belongs to; returns when somebody has thawed it."""
    if bounds.freeze():
        return
    me = os.getpid()
    proc.send_all((p for p in proc.of_session(os.getsid(0)) if p != me), signal.SIGSTOP)
    os.kill(me, signal.SIGSTOP)


def thaw(node: disk.NodeDir) -> None:
    """Let a suspended node run again; harmless if it runs."""
    Limits.load(node).thaw()
    known = disk.read_json(node.processes_file) or {}
    for who in known.values():
        if proc.is_alive(who):
            proc.send_all(proc.of_session(os.getsid(who[0])), signal.SIGCONT)
            proc.send(who, signal.SIGCONT)
