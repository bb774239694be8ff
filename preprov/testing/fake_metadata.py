"""Metadata services as machines of a cloud see them: tokens, headers that must be there, 404s, throttling, silence.

One server stands for the link-local addresses of all machines of a fake cloud: the one of machine M is below `/vm/M`.
"""

import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from preprov.model.notes import PREFIX

INSTANCE_KEY: Final = "ASIA"
"""Keys of the role of an instance begin with this; its name follows."""


@dataclass
class Vm:
    """A machine as its metadata service shows it.

    Attributes:
        notes: the controller's. posted: what its agent left in guest attributes.
        notice: "interruption" or "rebalance", and when (epoch seconds).
        lifecycle: what its Auto Scaling group means it to be; "" = it is in none. standby: a standby pool keeps it.
        allowed: False = tags in metadata, guest attributes or its identity were not allowed by its template.
    """

    name: str
    instance_type: str
    zone: str
    address: str
    notes: Mapping[str, str] = field(default_factory=dict)
    posted: dict[str, str] = field(default_factory=dict)
    notice: tuple[str, float] | None = None
    lifecycle: str = ""
    standby: bool = False
    allowed: bool = True
    resource_id: str = ""


@dataclass(frozen=True)
class Asked:
    """A request to the metadata service of one machine; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


@dataclass
class MetadataFaults:
    """What goes wrong. Each is off until a test sets it.

    Attributes:
        next: statuses that the next requests get, in order.
        calls_per_s: of wall time and machine; more are throttled.
        silent: nobody answers, as for a machine that is more hops away than allowed.
    """

    next: deque[int] = field(default_factory=deque)
    calls_per_s: int | None = None
    silent: bool = False


class MetadataServer:
    """The server; a subclass answers in the words of its cloud. Use as a context.

    Args:
        look: a machine as it is now; None = there is none, or it does not run.
    """

    def __init__(self, look: Callable[[str], Vm | None]) -> None:
        self._look = look
        self.faults = MetadataFaults()
        self.asked: list[tuple[str, str]] = []
        self._recent: dict[str, deque[float]] = {}
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, name: str) -> str:
        """What stands for the link-local address of that machine."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/vm/{name}"

    def answer(self, vm: Vm, asked: Asked) -> str:
        """Text of the answer.

        Raises:
            Refused: it is an error.
        """
        raise NotImplementedError

    def serve(self, name: str, asked: Asked) -> tuple[int, str]:
        """Status and text. Raises TimeoutError if nobody answers."""
        with self._lock:
            self.asked.append((asked.method, asked.path))
            if self.faults.silent:
                raise TimeoutError
            if self.faults.next:
                return self.faults.next.popleft(), "an error that was ordered"
            if self._too_many(name):
                return 429, "too many requests"
        vm = self._look(name)
        if vm is None:
            return 404, "no such machine"
        try:
            return 200, self.answer(vm, asked)
        except Refused as e:
            return e.status, str(e)

    def _too_many(self, name: str) -> bool:
        recent, now = self._recent.setdefault(name, deque()), monotonic()
        while recent and now - recent[0] > 1.0:
            recent.popleft()
        if self.faults.calls_per_s is not None and len(recent) >= self.faults.calls_per_s:
            return True
        recent.append(now)
        return False


def _handler(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            url = urlsplit(self.path)
            _, _, name, path = url.path.split("/", 3)
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            headers = {k.lower(): v for k, v in self.headers.items()}
            try:
                status, text = server.serve(name, Asked(self.command, f"/{path}", query, headers, body))
            except TimeoutError:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())
            self.wfile.flush()

        do_GET = do_PUT = do_POST = do_PATCH = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


class AwsMetadata(MetadataServer):
    """IMDSv2: nothing without a session token, which is not given to what came through a proxy."""

    _TOKEN: Final = "/latest/api/token"  # noqa: S105
    _DATA: Final = "/latest/meta-data/"

    def __init__(self, look: Callable[[str], Vm | None], region: str) -> None:
        super().__init__(look)
        self._region = region
        self._tokens: set[str] = set()

    def expire_tokens(self) -> None:
        """All sessions are over."""
        self._tokens.clear()

    def answer(self, vm: Vm, asked: Asked) -> str:
        """As the server says."""
        if asked.path == self._TOKEN:
            return self._token(asked)
        if asked.headers.get("x-aws-ec2-metadata-token", "") not in self._tokens:
            raise Refused(401, "Unauthorized")
        if asked.method != "GET" or not asked.path.startswith(self._DATA):
            raise Refused(404)
        found = self._tree(vm).get(unquote(asked.path.removeprefix(self._DATA)))
        if found is None:
            raise Refused(404, "Not Found")
        return found

    def _token(self, asked: Asked) -> str:
        if asked.method != "PUT" or "x-aws-ec2-metadata-token-ttl-seconds" not in asked.headers:
            raise Refused(400, "Bad Request")
        if "x-forwarded-for" in asked.headers:
            raise Refused(403, "Forbidden")
        token = secrets.token_urlsafe(16)
        self._tokens.add(token)
        return token

    def _tree(self, vm: Vm) -> Mapping[str, str]:
        keys = {
            "Code": "Success",
            "AccessKeyId": f"{INSTANCE_KEY}{vm.name}",
            "SecretAccessKey": "s" * 40,
            "Token": "t" * 64,
        }
        tree = {
            "instance-id": vm.name,
            "instance-type": vm.instance_type,
            "local-ipv4": vm.address,
            "placement/region": self._region,
            "placement/availability-zone": vm.zone,
            "services/domain": "amazonaws.com",
        }
        if vm.allowed:
            tree |= {"tags/instance": "\n".join(vm.notes), **{f"tags/instance/{k}": v for k, v in vm.notes.items()}}
            tree |= {"iam/security-credentials/": "nodes", "iam/security-credentials/nodes": json.dumps(keys)}
        if vm.lifecycle:
            tree["autoscaling/target-lifecycle-state"] = vm.lifecycle
        if vm.notice is not None:
            kind, when = vm.notice
            at = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if kind == "interruption":
                tree["spot/instance-action"] = json.dumps({"action": "terminate", "time": at})
            else:
                tree["events/recommendations/rebalance"] = json.dumps({"noticeTime": at})
        return tree


class GcpMetadata(MetadataServer):
    """The metadata server: nothing without its header; guest attributes are written by PUT where they are allowed."""

    _INSTANCE: Final = "/computeMetadata/v1/instance/"

    def answer(self, vm: Vm, asked: Asked) -> str:
        """As the server says."""
        if asked.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in asked.headers:
            raise Refused(403, "Missing Metadata-Flavor:Google header.")
        inside = asked.path.removeprefix(self._INSTANCE)
        if asked.method == "PUT":
            return self._put(vm, inside, asked.body)
        if asked.method == "GET" and inside == "" and asked.query.get("recursive") == "true":
            return json.dumps(self._tree(vm))
        raise Refused(404)

    def _put(self, vm: Vm, inside: str, value: str) -> str:
        first, _, key = inside.partition("/")
        space, _, key = key.partition("/")
        if first != "guest-attributes" or not vm.allowed:
            raise Refused(403 if first == "guest-attributes" else 405, "Guest attributes endpoint access is disabled.")
        if f"{space}:" == PREFIX:
            vm.posted[f"{PREFIX}{key}"] = value
        return ""

    def _tree(self, vm: Vm) -> dict[str, Any]:
        notes = {"preprov-notes": json.dumps(dict(vm.notes))} if vm.notes else {}
        return {
            "name": vm.name,
            "id": 7,
            "zone": f"projects/1/zones/{vm.zone}",
            "machineType": f"projects/1/machineTypes/{vm.instance_type}",
            "attributes": {"enable-guest-attributes": "TRUE", **notes},
            "networkInterfaces": [{"ip": vm.address}],
            "preempted": "TRUE" if vm.notice else "FALSE",
            "maintenanceEvent": "NONE",
        }


class AzureMetadata(MetadataServer):
    """The instance metadata service: nothing without its header or through a proxy; tokens of a machine's identity."""

    def __init__(self, look: Callable[[str], Vm | None]) -> None:
        super().__init__(look)
        self._tokens: dict[str, str] = {}

    def owner(self, token: str) -> str:
        """Name of the machine whose token this is; "" = nobody's."""
        return self._tokens.get(token, "")

    def expire_tokens(self) -> None:
        """No token is good any more."""
        self._tokens.clear()

    def answer(self, vm: Vm, asked: Asked) -> str:
        """As the server says."""
        if asked.headers.get("metadata") != "true" or "x-forwarded-for" in asked.headers:
            raise Refused(400, '{"error": "Bad request. Required metadata header not specified"}')
        if "api-version" not in asked.query:
            raise Refused(400, '{"error": "Bad request. api-version was not specified in the request"}')
        known = {
            "/metadata/instance": self._instance,
            "/metadata/scheduledevents": self._events,
            "/metadata/identity/oauth2/token": self._token,
        }
        if asked.method != "GET" or asked.path not in known:
            raise Refused(404)
        return json.dumps(known[asked.path](vm))

    def _instance(self, vm: Vm) -> dict[str, Any]:
        compute = {
            "name": vm.name,
            "vmSize": vm.instance_type,
            "zone": vm.zone,
            "resourceId": vm.resource_id,
            "isVmInStandbyPool": str(vm.standby).lower(),
            "tagsList": [{"name": k, "value": v} for k, v in vm.notes.items()],
        }
        address = {"ipv4": {"ipAddress": [{"privateIpAddress": vm.address}]}}
        return {"compute": compute, "network": {"interface": [address]}}

    def _events(self, vm: Vm) -> dict[str, Any]:
        if vm.notice is None:
            return {"DocumentIncarnation": 1, "Events": []}
        before = format_datetime(datetime.fromtimestamp(vm.notice[1], UTC), usegmt=True)
        event = {"EventId": "e", "EventType": "Preempt", "Resources": [vm.name], "NotBefore": before}
        return {"DocumentIncarnation": 2, "Events": [event]}

    def _token(self, vm: Vm) -> dict[str, Any]:
        if not vm.allowed:
            raise Refused(400, '{"error": "invalid_request", "error_description": "Identity not found"}')
        token = secrets.token_urlsafe(16)
        self._tokens[token] = vm.name
        return {"access_token": token, "expires_on": str(4102444800), "token_type": "Bearer"}
