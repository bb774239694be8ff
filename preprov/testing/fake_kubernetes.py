"""A small Kubernetes API server over HTTP: lists of Jobs, CronJobs, pods and Kueue's workloads, paged as the real one.

It stores what it is told, hands out continue tokens that expire, tells who watches what changed (and ends the watch at
once), answers access reviews by its `rights`, and refuses
after so many answers if asked to. It runs nothing: whoever uses it says what becomes of a Job.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

from preprov.testing.fake_kubernetes_resize import at_once, resized
from preprov.testing.fake_kubernetes_watch import Journal

Json = dict[str, Any]

PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "jobs": ("batch", "/apis/batch/v1"),
    "cronjobs": ("batch", "/apis/batch/v1"),
    "pods": ("", "/api/v1"),
    "priorityclasses": ("scheduling.k8s.io", "/apis/scheduling.k8s.io/v1"),
    "workloads": ("kueue.x-k8s.io", "/apis/kueue.x-k8s.io"),
}


@dataclass
class FakeKubernetes:
    """What the cluster holds.

    Attributes:
        objects: resource -> uid -> object. rights: (group, resource) that may be listed. kueue: its CRDs are there.
        watched: whether what may be listed may be watched. journal: what changed; `forget` it, and watches are refused.
        kueue_versions: in which its workloads are served, the one that is liked best first.
        answers: answered before it refuses; None = always. page: at most so many objects a page.
        forget: continue tokens that are no longer known, to be refused once each. asked: requests so far.
        offset: seconds that its clock is ahead of this machine's. sent_as: media type of what was sent last.
        minor: its version is 1.so much; release: how it writes that, "" = as v1.33.1.
        node_has, node_used: cores and bytes of the node of its pods, and by others.
    """

    objects: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in PLACES})
    rights: set[tuple[str, str]] = field(
        default_factory=lambda: {("", "pods/resize"), *((group, name) for name, (group, _) in PLACES.items())}
    )
    kueue: bool = True
    watched: bool = True
    journal: Journal = field(default_factory=Journal)
    kueue_versions: tuple[str, ...] = ("v1beta1",)
    answers: int | None = None
    page: int = 500
    forget: int = 0
    asked: int = 0
    offset: float = 0.0
    sent_as: str = ""
    minor: int = 33
    release: str = ""
    node_has: dict[str, float] = field(default_factory=lambda: {"cpu": 64.0, "memory": 256 * 2.0**30})
    node_used: dict[str, float] = field(default_factory=lambda: {"cpu": 0.0, "memory": 0.0})
    _made: int = 0
    _lists: dict[int, list[Json]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def now(self) -> float:
        """Epoch seconds there."""
        return time.time() + self.offset

    # ---- what there is

    def add(
        self, resource: str, name: str, body: Json, *, namespace: str = "default", owner: Json | None = None
    ) -> Json:
        """Create an object; returns it."""
        self._made += 1
        uid = str(uuid5(NAMESPACE_URL, f"{resource}/{namespace}/{name}/{self._made}"))
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": stamp(self.now()),
            "labels": dict(body.pop("labels", {})),
            "annotations": dict(body.pop("annotations", {})),
        }
        if owner is not None:
            meta["ownerReferences"] = [{**owner, "controller": True}]
        made = {"metadata": meta, "status": {}, **body}
        self.objects[resource][uid] = made
        return made

    def job(self, name: str, *, spec: Json | None = None, pod: Json | None = None, **more: Any) -> Json:
        """A Job; `spec` beside its template, `pod` its pods' spec."""
        template = {"metadata": {"labels": {"job-name": name}}, "spec": pod or pod_spec()}
        return self.add("jobs", name, {"spec": {"template": template, **(spec or {})}, **more.pop("body", {})}, **more)

    def pod_of(self, job: Json, index: int = 0, *, started: bool = True) -> Json:
        """A pod that the Job made."""
        meta = job["metadata"]
        made = self.add(
            "pods",
            f"{meta['name']}-{index}-x2v7q",
            {
                "spec": dict(job["spec"]["template"]["spec"]),
                "labels": {"job-name": meta["name"]},
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            },
            namespace=meta["namespace"],
            owner={"kind": "Job", "name": meta["name"], "uid": meta["uid"]},
        )
        made["status"] = {"phase": "Pending"}
        if started:
            self.start(made)
        return made

    def condition(self, thing: Json, kind: str, value: str, reason: str = "") -> None:
        """Set a condition; as with the real one, its time is that at which it last became another value."""
        told = thing["status"].setdefault("conditions", [])
        found = next((c for c in told if c["type"] == kind), None)
        if found is None or found["status"] != value:
            told[:] = [c for c in told if c is not found]
            found = {"type": kind, "status": value, "lastTransitionTime": stamp(self.now())}
            told.append(found)
        found["reason"] = reason

    def hold(self, pod: Json, reason: str = "Unschedulable") -> None:
        """The scheduler leaves it: nothing fits, or a gate stands before it ("SchedulingGated")."""
        self.condition(pod, "PodScheduled", "False", reason)

    def place(self, pod: Json, node: str = "node") -> None:
        """The scheduler gives it a node."""
        pod["spec"]["nodeName"] = node
        self.condition(pod, "PodScheduled", "True")

    def resume(self, job: Json) -> None:
        """A suspended Job goes on."""
        job["spec"]["suspend"] = False
        job["status"]["startTime"] = stamp(self.now())
        self.condition(job, "Suspended", "False", "JobResumed")

    def stuck(self, pod: Json, reason: str, which: str = "containerStatuses") -> None:
        """A container of it waits, for that reason."""
        container = pod["spec"]["containers"][0]
        waiting = {"reason": reason, "message": f"Back-off pulling image {container['image']!r}"}
        pod["status"][which] = [{"name": "main", "image": container["image"], "state": {"waiting": waiting}}]

    def start(self, pod: Json) -> None:
        """Its container runs."""
        running = {"state": {"running": {"startedAt": stamp(self.now())}}}
        pod["status"] |= {"phase": "Running", "containerStatuses": [running]}

    def end(self, pod: Json, phase: str = "Succeeded") -> None:
        """Its container has ended."""
        states = pod["status"].get("containerStatuses") or [{"state": {}}]
        begun = states[0]["state"].get("running", {}).get("startedAt") or stamp(self.now())
        ended = {"state": {"terminated": {"startedAt": begun, "finishedAt": stamp(self.now()), "exitCode": 0}}}
        pod["status"] |= {"phase": phase, "containerStatuses": [ended]}

    def complete(self, job: Json, kind: str = "Complete") -> None:
        """The Job is over, and so are its pods."""
        for pod in self.pods_of(job):
            if pod["status"].get("phase") not in ("Succeeded", "Failed"):
                self.end(pod)
        job["status"].setdefault("startTime", job["metadata"]["creationTimestamp"])
        self.condition(job, kind, "True")
        if kind == "Complete":
            job["status"]["completionTime"] = stamp(self.now())

    def pods_of(self, job: Json) -> list[Json]:
        """The pods that the Job made."""
        uid = job["metadata"]["uid"]
        return [
            p for p in self.objects["pods"].values() if p["metadata"].get("ownerReferences", [{}])[0].get("uid") == uid
        ]

    def delete(self, job: Json) -> None:
        """The Job and its pods are gone."""
        for resource, gone in (("pods", self.pods_of(job)), ("jobs", [job])):
            for item in gone:
                del self.objects[resource][item["metadata"]["uid"]]

    # ---- answers

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        """Status and body of one request."""
        self.asked += 1
        if self.answers is not None:
            if self.answers <= 0:
                return 503, status(503, "ServiceUnavailable")
            self.answers -= 1
        if path.rstrip("/") == "/version":
            told = dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler"), "")
            version = {"major": "1", "minor": str(self.minor), "gitVersion": self.release or f"v1.{self.minor}.1"}
            return 200, {**told, **version, "platform": "linux/amd64"}
        if path.rstrip("/") == "/apis":
            return 200, {"kind": "APIGroupList", "groups": self._groups()}
        if path.endswith("/selfsubjectaccessreviews") and method == "POST":
            asked = body["spec"]["resourceAttributes"]
            below = asked.get("subresource")
            what = f"{asked['resource']}/{below}" if below else asked["resource"]
            allowed = (asked.get("group") or "", what) in self.rights and (self.watched or asked["verb"] != "watch")
            return 201, {**body, "kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}
        named = path.strip("/").split("/")
        if named[:3] == ["api", "v1", "namespaces"] and named[4:5] == ["pods"] and len(named) > 5:
            return self._one(method, named[3], named[5], named[6:], body)
        return self._listed(path, query) if method == "GET" else (405, status(405, "MethodNotAllowed"))

    def _one(self, method: str, namespace: str, name: str, below: list[str], body: Json) -> tuple[int, Json]:
        """One pod, or a patch of its size."""
        pods = [p["metadata"] | {"pod": p} for p in self.objects["pods"].values()]
        found = next((m["pod"] for m in pods if (m["namespace"], m["name"]) == (namespace, name)), None)
        if found is None:
            return 404, status(404, "NotFound") | {"details": {"name": name, "kind": "pods"}}
        if method == "PATCH" and below == ["resize"]:
            if self.sent_as != "application/strategic-merge-patch+json":  # any other would replace the containers
                return 415, status(415, "UnsupportedMediaType")
            return resized(self, found, body)
        if method == "GET" and not below:
            return 200, {"kind": "Pod", "apiVersion": "v1", **found}
        return 405, status(405, "MethodNotAllowed")

    def resize_asked(self, pod: Json) -> None:
        """Its kubelet answers at once."""
        at_once(self, pod)

    def _groups(self) -> list[Json]:
        """API groups by name, as far as anybody asks for them."""
        if not self.kueue:
            return []
        group = PLACES["workloads"][0]
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in self.kueue_versions]
        return [{"name": group, "versions": versions, "preferredVersion": versions[0]}]

    def _listed(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, Json]:
        for name, (group, root) in PLACES.items():
            if not path.startswith(root + "/") or (name == "workloads" and not self.kueue):
                continue
            parts = path[len(root) + 1 :].split("/")
            if name == "workloads" and parts.pop(0) not in self.kueue_versions:
                continue
            if parts[-1] != name:
                continue
            if (group, name) not in self.rights:
                return 403, status(403, "Forbidden")
            namespace = parts[1] if len(parts) == 3 and parts[0] == "namespaces" else ""
            if query.get("watch", [""])[0] in ("true", "True"):
                return self._watch(name, namespace, query)
            found = [o for o in self.objects[name].values() if namespace in ("", o["metadata"]["namespace"])]
            found = _selected(found, query)
            version = 0 if "continue" in query else self.journal.look(name, self.objects[name])
            return self._page(name, found, query, version)
        return 404, status(404, "NotFound")

    def _watch(self, name: str, namespace: str, query: Mapping[str, list[str]]) -> tuple[int, Json]:
        if not self.watched:
            return 403, status(403, "Forbidden")
        self.journal.look(name, self.objects[name])
        told = self.journal.since(name, int(query["resourceVersion"][0]), namespace)
        return 200, {"text": "".join(f"{json.dumps(t)}\n" for t in told)}

    def _page(self, name: str, found: list[Json], query: Mapping[str, list[str]], version: int = 1) -> tuple[int, Json]:
        """A list is as it was when it was begun, whatever is deleted while somebody reads it."""
        token = query.get("continue", [""])[0]
        number, at, version = map(int, token.split(".")) if token else (next(self._numbers), 0, version)
        if at and self.forget:
            self.forget -= 1
            return 410, status(410, "Expired")
        found = self._lists.get(number, found)
        size = min(int(query.get("limit", [str(self.page)])[0]), self.page)
        more = {"continue": f"{number}.{at + size}.{version}"} if at + size < len(found) else {}
        if more:
            self._lists[number] = found  # a page may be asked for again
        return 200, {
            "kind": f"{name}List",
            "metadata": {"resourceVersion": str(version), **more},
            "items": found[at : at + size],
        }

    # ---- the server

    @contextmanager
    def served(self, folder: Path, *, garble: Callable[[bytes], bytes] | None = None) -> Iterator[Path]:
        """Serve on loopback; gives the path of a kubeconfig for it, written into `folder`."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, garble))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        file = folder / "kubeconfig.json"
        address = f"http://127.0.0.1:{server.server_address[1]}"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": address}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                    "users": [{"name": "me", "user": {"token": "none"}}],
                }
            )
        )
        try:
            yield file
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _selected(found: list[Json], query: Mapping[str, list[str]]) -> list[Json]:
    """Those with these labels, and of this name: more is not asked for."""
    labels = [pair.split("=", 1) for pair in query.get("labelSelector", [""])[0].split(",") if pair]
    field, _, name = query.get("fieldSelector", [""])[0].partition("=")
    assert field in ("", "metadata.name"), field
    return [
        o
        for o in found
        if all(o["metadata"]["labels"].get(k) == v for k, v in labels) and (not field or o["metadata"]["name"] == name)
    ]


def pod_spec(cpu: str = "500m", memory: str = "1Gi", image: str = "registry/etl:1", **more: Any) -> Json:
    """A pod of one container."""
    container = {"name": "main", "image": image, "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {"restartPolicy": "Never", "containers": [container], **more}


def stamp(at: float) -> str:
    """As Kubernetes writes times: whole seconds, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(code: int, reason: str) -> Json:
    """As it says no."""
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}


def _handler(fake: FakeKubernetes, garble: Callable[[bytes], bytes] | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet for head and body: two of them wait for each other

        def date_time_string(self, timestamp: float | None = None) -> str:
            """The Date header is by the cluster's clock."""
            return super().date_time_string(fake.now() if timestamp is None else timestamp)

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            fake.sent_as = self.headers.get("Content-Type", "")
            code, told = fake.answer(self.command, parts.path, parse_qs(parts.query), body)
            plain = told.get("text") if set(told) == {"text"} else None
            after = told.pop("retryAfterSeconds", None)
            payload = json.dumps(told).encode() if plain is None else str(plain).encode()
            payload = garble(payload) if garble is not None and code == 200 else payload
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            if after is not None:
                self.send_header("Retry-After", str(after))
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    return Handler
