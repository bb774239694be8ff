#!/usr/bin/env python3
"""A terraform that behaves, for machines that have none: one root module with the local module's outputs.

The folder holds `module.json` (the declared pool without its counts), `state.json` (the applied counts), and
`faults.json` (what goes wrong). It reads the variable's file, plans, locks, applies, and says what the real one says.
"""

import json
import os
import pathlib
import signal
import sys
import time


def load(name, default):
    path = pathlib.Path(name)
    return json.loads(path.read_text()) if path.exists() else default


def fail(said):
    sys.stderr.write(f"\nError: {said}\n")
    sys.exit(1)


def wanted(module):
    variable = module["counts_variable"]
    return {**load("state.json", {}), **load(f"{variable}.auto.tfvars.json", {variable: {}})[variable]}


def changes(module):
    old, new = load("state.json", {}), wanted(module)
    for group in (g["name"] for g in module["groups"]):
        if old.get(group) != new.get(group) and module["counts_owner"] == "terraform":
            yield resource(group, ["update"], {"input": old.get(group)}, {"input": new.get(group)})
    for address in load("faults.json", {}).get("also_deletes", []):
        yield resource(address, ["delete"], {"input": 1}, None)


def resource(name, actions, before, after):
    change = {"actions": actions, "before": before, "after": after, "after_unknown": {"output": True}}
    return {"address": f'module.p.terraform_data.terraform["{name}"]', "type": "terraform_data", "change": change}


def lock():
    if load("faults.json", {}).get("locked"):
        fail("Error acquiring the state lock\n\nLock Info:\n  Who: somebody@elsewhere")


def output(module, _words):
    counts = load("state.json", {})
    groups = [{**g, "counts": counts.get(g["name"], {"running": 0, "standby": 0})} for g in module["groups"]]
    sys.stdout.write(json.dumps({"preprov_pool": {"sensitive": False, "value": {**module, "groups": groups}}}))


def plan(module, words):
    faults = load("faults.json", {})
    if faults.get("slow"):
        signal.signal(signal.SIGINT, lambda *_: (pathlib.Path("interrupted").touch(), fail("interrupted")))
        pathlib.Path("started").write_text(str(os.getpid()))
        time.sleep(600)
    if "-lock=false" not in words:
        lock()
    if faults.get("plan_fails"):
        fail(faults["plan_fails"])
    file = next(w.removeprefix("-out=") for w in words if w.startswith("-out="))
    drift = [resource(n, ["update"], {"tags": 1}, {"tags": 2}) for n in faults.get("drifted", [])]
    refresh = "-refresh-only" in words
    body = {"resource_changes": [] if refresh else list(changes(module)), "resource_drift": drift}
    pathlib.Path(file).write_text(json.dumps({**body, "counts": wanted(module)}))


def show(_module, words):
    text = pathlib.Path(words[-1]).read_text()
    sys.stdout.write(text if "-json" in words else f"Plan: {text}")


def apply(module, words):
    lock()
    faults = load("faults.json", {})
    if faults.get("apply_fails"):
        fail(faults["apply_fails"])
    planned = json.loads(pathlib.Path(words[-1]).read_text())
    if module["counts_owner"] == "terraform":
        pathlib.Path("state.json").write_text(json.dumps(planned["counts"]))
    applied = pathlib.Path("applied")
    applied.write_text((applied.read_text() if applied.exists() else "") + "x")


def main():
    module = load("module.json", None)
    if module is None:
        fail('Required plugins are not installed\n\nRun "terraform init" first.')
    verb, words = sys.argv[1], sys.argv[2:]
    {"output": output, "plan": plan, "show": show, "apply": apply}[verb](module, words)


main()
