"""The reservation ledger on PostgreSQL, beside pgbench with the same statements, one after the other in one run.

    python -m benchmarks.ledger [--clients 32] [--seconds 10] [--segments 1,8,32]

A server of its own (synchronous_commit on). Each client reserves, commits to one of 32 nodes and gives back, three
operations in three transactions; pgbench does the same in SQL, with as many clients. One JSON document: operations a
second of both, and their ratio, by number of segments; afterwards it is looked whether anything is overbooked.
"""

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine
from preprov.model.reservations import Purpose, Reservation, Segment
from preprov.model.resources import Resources
from preprov.store.database import open_store
from tests.ledgertruth import peak
from tests.postgres import SystemServer, system_binaries

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NODES = 32
ROOM = Resources(cpu=64, memory=256)
GOAL = {"operations_per_s_one_segment": 1000, "share_of_pgbench": 0.4}


def a_claim(name: str, segments: int) -> Reservation:
    """So many minutes, each with another amount."""
    parts = tuple(
        Segment(T0 + timedelta(minutes=k), T0 + timedelta(minutes=k + 1), Resources(cpu=1 + k % 2, memory=2))
        for k in range(segments)
    )
    return Reservation(name, "p", name, parts, expires_at=T0 + timedelta(days=1), purpose=Purpose.TASK)


def client(url: str, home: str, number: int, segments: int, seconds: float, ready: Barrier, out: Any) -> None:
    """Operations until the time is over."""
    ledger = open_store(url, Path(home)).ports().ledger
    ledger.reservations("nothing")  # so that it is connected
    rng, done = random.Random(number), 0  # noqa: S311 - which node, no secret
    ready.wait()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        name = f"c{number}-{segments}-{done}"
        ledger.reserve(a_claim(name, segments))
        ledger.commit(name, f"n{rng.randrange(NODES)}", ROOM, T0)
        ledger.release(name)
        done += 3
    out.put((done, time.perf_counter() - began))


def ours(url: str, home: Path, clients: int, segments: int, seconds: float) -> float:
    """Operations a second of all clients together."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preprov.store.database"])
    ready, out = context.Barrier(clients), context.Queue()
    started = [
        context.Process(target=client, args=(url, str(home), n, segments, seconds, ready, out)) for n in range(clients)
    ]
    for process in started:
        process.start()
    told = [out.get(timeout=300) for _ in started]
    for process in started:
        process.join(60)
    return sum(done / took for done, took in told)


def script(segments: int) -> str:
    """The statements of one round, as the ledger sends them."""
    from preprov.store.ledgercodec import values

    row = values(a_claim("x", segments))
    told = {k: "null" if v is None else f"'{v}'" for k, v in row.items()}
    told |= {"reservation_id": "'b-:client_id-:one-:two'", "claimant": "'b-:client_id-:one-:two'"}
    columns = ", ".join(f'"{k}"' for k in told)
    mine = "reservation_id = 'b-:client_id-:one-:two'"
    written = ", ".join(f'"{k}" = {told[k]}' for k in ("reason", "expires_at"))
    lines = [
        r"\set one random(1, 1000000000)",
        r"\set two random(1, 1000000000)",
        rf"\set node random(0, {NODES - 1})",
        f"INSERT INTO reservation ({columns}) VALUES ({', '.join(told.values())});",  # noqa: S608 - our own names
        r"BEGIN\; SELECT pg_advisory_xact_lock(:node);",
        f"SELECT * FROM reservation WHERE {mine} FOR UPDATE;",  # noqa: S608
        f"UPDATE reservation SET state = 'committed', node_id = 'n:node', {written} WHERE {mine};",  # noqa: S608
        "SELECT reservation_id, segments, purpose, under, state FROM reservation"
        " WHERE pool = 'p' AND state = 'committed' AND node_id = 'n:node';",
        "COMMIT;",
        rf"SELECT *, xmin::text AS version FROM reservation WHERE {mine} \gset is_",  # noqa: S608
        f"UPDATE reservation SET state = 'released', node_id = 'n:node', {written}"  # noqa: S608
        f" WHERE {mine} AND xmin::text = ':is_version';",
    ]
    return "\n".join(lines) + "\n"


def pgbench(server: SystemServer, folder: Path, clients: int, segments: int, seconds: float) -> float:
    """Operations a second of pgbench: three a round."""
    file = folder / f"round-{segments}.sql"
    file.write_text(script(segments))
    words = [str(server.binaries / "pgbench"), "-n", "-c", str(clients), "-j", "2", "-T", f"{seconds:.0f}"]
    words += ["-f", str(file), "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "postgres"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (tps,) = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("tps =")]
    failed = [line for line in done.stderr.splitlines() if "ERROR" in line]
    if failed:
        raise RuntimeError(failed[0])
    return 3 * float(tps)


def overbooked(url: str, home: Path) -> int:
    """Nodes on which more is committed than there is."""
    live = open_store(url, home).ports().ledger.reservations("p")
    until = T0 + timedelta(days=1)
    nodes = {r.node_id for r in live if r.node_id}
    return sum(not peak([r for r in live if r.node_id == n], T0, until).fits_in(ROOM) for n in nodes)


def measure(clients: int, seconds: float, segments: Sequence[int]) -> dict[str, Any]:
    """Both, turn by turn, on a fresh server."""
    found = system_binaries()
    if found is None or not (found / "pgbench").exists():
        raise SystemExit("SKIPPED: no PostgreSQL with pgbench is installed here")
    out: dict[str, Any] = {"machine": machine(), "clients": clients, "seconds": seconds, "segments": {}}
    server = SystemServer(found, durable=True)
    try:
        server.start()
        with TemporaryDirectory() as home:
            open_store(server.address, Path(home)).close()
            for count in segments:
                print(f"   {count} segment(s)", file=sys.stderr, flush=True)
                mine = ours(server.address, Path(home), clients, count, seconds)
                theirs = pgbench(server, Path(home), clients, count, seconds)
                out["segments"][count] = {
                    "operations_per_s": round(mine),
                    "pgbench_operations_per_s": round(theirs),
                    "share_of_pgbench": round(mine / theirs, 3),
                }
            out["overbooked_nodes"] = overbooked(server.address, Path(home))
    finally:
        server.remove()
    return {**out, "goal": GOAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--segments", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8, 32])
    args = parser.parse_args()
    print(json.dumps(measure(args.clients, args.seconds, args.segments), indent=1))


if __name__ == "__main__":
    main()
