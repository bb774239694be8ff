"""An AWS that behaves, over HTTP, for the real SDK: moto's server, and over it what moto leaves out.

Machines take time to boot and stop, ClientTokens are kept, zones run out of machines, calls are throttled or refused,
listings lag, warm pools fill, lifecycle hooks wait, and an agent on each machine writes its notes. Time is that of the
clock it is given. `calls` holds every request that came in.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from preprov.contracts import Clock
from preprov.model.time import epoch
from preprov.testing.agents import AgentHost, Agents
from preprov.testing.fake_aws_groups import Groups
from preprov.testing.fake_aws_images import FakeImages
from preprov.testing.fake_aws_nodes import FakeNode, Times
from preprov.testing.fake_aws_volumes import FakeVolumes
from preprov.testing.fake_aws_wire import (
    Answer,
    Call,
    Refusal,
    answered,
    answered_json,
    element,
    form,
    read_call,
    refuse_as_instance,
    refused,
)
from preprov.testing.fake_machines import Lead
from preprov.testing.fake_metadata import INSTANCE_KEY, AwsMetadata, Vm

_ACCOUNTS = count(100000000001)
_READS = ("Describe", "Get", "List", "Receive")


@dataclass
class AwsFaults:
    """What goes wrong, on purpose; may be changed at any time.

    Attributes:
        short: (instance type, zone) of which there are no machines; "*" = any.
        left: machines that can be had in all; None = no end of them.
        denied: actions (`ec2:CreateFleet`) that the credentials lack the right to. expired: no credentials are good.
        calls_per_second: more than that, by the clock, are throttled.
        listing_lag_s: a new machine is not listed before it is this old.
        lose_answers: action -> how many of its answers get lost after it was carried out.
        spoiled: keys of images and datasets whose check fails on every machine.
    """

    short: set[tuple[str, str]] = field(default_factory=set)
    left: int | None = None
    denied: set[str] = field(default_factory=set)
    expired: bool = False
    calls_per_second: float | None = None
    listing_lag_s: float = 0.0
    lose_answers: dict[str, int] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)


class FakeAws:
    """One account. Use it in a `with`; `url` is the endpoint of all its services."""

    def __init__(
        self,
        clock: Clock,
        *,
        region: str = "us-east-1",
        times: Times | None = None,
        agents: Agents | None = None,
    ) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.clock = clock
        self.region = region
        self.times = times or Times()
        self.account = str(next(_ACCOUNTS))
        self.faults = AwsFaults()
        self.calls: list[Call] = []
        self.node_calls: list[Call] = []
        self.nodes: dict[str, FakeNode] = {}
        self.prices: dict[str, float] = {}
        self.quotas: dict[str, float] = {}
        self.groups = Groups(self)
        self.images = FakeImages(self)
        self.volumes = FakeVolumes(self)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.RLock()
        self.lead_s: Lead | None = None
        self.agents = AgentHost(clock, agents, self._lock, self._racked)
        self.metadata = AwsMetadata(self._shown_to_itself, region)
        self._answers: dict[tuple[str, str], tuple[Mapping[str, str], Answer]] = {}
        self._recent: deque[float] = deque()
        self._server: Any = None
        self._handlers: dict[str, Callable[[Call], Answer]] = {
            "ec2:CreateFleet": self._create_fleet,
            "ec2:StartInstances": self._start,
            "ec2:StopInstances": self._stop,
            "ec2:TerminateInstances": self._terminate,
            "ec2:DescribeInstances": self._describe,
            "pricing:GetProducts": self._products,
            "servicequotas:GetServiceQuota": self._quota,
            **self.groups.handlers,
            **self.images.handlers,
            **self.volumes.handlers,
        }

    # ---- the server

    def __enter__(self) -> "FakeAws":
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:
                """Say nothing."""

        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.metadata.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.metadata.__exit__()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def now(self) -> float:
        """Epoch seconds on the clock."""
        return epoch(self.clock.now())

    @property
    def ec2(self) -> Any:
        """Moto's own state of EC2."""
        from moto.ec2.models import ec2_backends

        return ec2_backends[self.account][self.region]

    def called(self) -> set[str]:
        """Names of all actions that were asked for, as policies name them."""
        return {c.name for c in self.calls}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act on it from a test, with everything brought up to now before and after."""
        with self._lock:
            self.advance()
            yield
            self.advance()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.agents.catch_up()
        with self._lock:
            call = read_call(environ, body, self.now)
            self._note(call)
            self.advance()
            try:
                answer = self._answer(call, environ, body)
            except Refusal as why:
                answer = refused(call, why)
            self.advance()
        start_response(f"{answer.status} OK", [("Content-Type", answer.kind)])
        return [answer.body]

    def _answer(self, call: Call, environ: dict[str, Any], body: bytes) -> Answer:
        self._refuse(call)
        token = call.params.get("ClientToken", "")
        known = self._answers.get((call.name, token)) if token else None
        if known is not None:
            if known[0] != call.params:
                code = "IdempotentParameterMismatch" + ("Error" if call.service == "autoscaling" else "")
                raise Refusal(code, "The client token was used with other parameters.")
            return known[1]
        handler = self._handlers.get(call.name)
        self._environ = environ
        answer = handler(call) if handler else self.moto(call, body)
        if token and answer.status == 200:
            self._answers[call.name, token] = (call.params, answer)
        if self.faults.lose_answers.get(call.name, 0) > 0:
            self.faults.lose_answers[call.name] -= 1
            raise Refusal("InternalError", "An internal error has occurred.", 500)
        return answer

    def _note(self, call: Call) -> None:
        if call.key.startswith(INSTANCE_KEY):
            self.node_calls.append(call)
            return
        self.calls.append(call)
        if not call.action.startswith(_READS):
            self.agents.wrote()

    def _refuse(self, call: Call) -> None:
        if call.key.startswith(INSTANCE_KEY):
            refuse_as_instance(call)
            return
        if self.faults.expired:
            raise Refusal("ExpiredToken" if call.service != "ec2" else "RequestExpired", "The token has expired.", 403)
        if call.name in self.faults.denied:
            code = "UnauthorizedOperation" if call.service == "ec2" else "AccessDenied"
            raise Refusal(code, f"You are not authorized to perform {call.name}.", 403)
        if call.params.get("DryRun") == "true":
            raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        rate = self.faults.calls_per_second
        if rate is not None:
            while self._recent and self.now - self._recent[0] > 1.0:
                self._recent.popleft()
            if len(self._recent) >= rate:
                raise Refusal("RequestLimitExceeded" if call.service == "ec2" else "Throttling", "Rate exceeded", 503)
            self._recent.append(self.now)

    def moto(self, call: Call, body: bytes | None = None) -> Answer:
        """Have moto answer."""
        import io

        body = form(call, call.params) if body is None else body
        environ = {
            **self._environ,
            "HTTP_X_MOTO_ACCOUNT_ID": self.account,
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
        }
        heard: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
            heard[:] = [int(status.split()[0]), dict(headers).get("Content-Type", "text/xml")]
            return lambda _: None

        text = b"".join(self._app(environ, start))
        return Answer(heard[0], text, heard[1])

    # ---- time

    def advance(self) -> None:
        """Bring all machines and groups up to now."""
        now = self.now
        self.adopt(now)
        for node in self.nodes.values():
            node.spoiled = frozenset(self.faults.spoiled)
            node.advance(now)
        self.groups.advance(now)
        self.images.advance(now)

    def adopt(self, now: float) -> list[FakeNode]:
        """Take in machines that moto has made since the last time: they are pending."""
        new = []
        for reservation in self.ec2.reservations.values():
            for instance in reservation.instances:
                if instance.id not in self.nodes:
                    node = FakeNode(instance, self.times, now)
                    node.begin(now, "cold")
                    node.mute, node.address = self.agents.real, self.agents.next_address()
                    node.lead_s = self.lead_s
                    self.nodes[instance.id] = node
                    new.append(node)
        return new

    # ---- agents

    def _racked(self) -> dict[str, dict[str, str]]:
        """All machines, as `preprov.testing.rack` wants them."""
        self.advance()
        now = self.now
        return {
            n.node_id: {
                "state": n.power(now),
                "boot": f"{n.node_id}-{n.boot}",
                "cloud": "aws",
                "metadata": self.metadata.url(n.node_id),
                "api": self.url,
            }
            for n in self.nodes.values()
            if n.state not in ("shutting-down", "terminated")
        }

    def _shown_to_itself(self, name: str) -> Vm | None:
        with self._lock:
            node = self.nodes.get(name)
            if node is None or node.power(self.now) != "up":
                return None
            about = node.instance
            zone, target = str(about.placement.zone), self.groups.target(name)
            kind = str(about.instance_type)
            return Vm(name, kind, zone, node.address, node.tags, {}, node.notice, lifecycle=target)

    # ---- EC2

    def room(self, instance_type: str, zone: str) -> int:
        """How many machines of that kind can be had there now."""
        pairs = {(instance_type, zone), ("*", zone), (instance_type, "*"), ("*", "*")}
        if pairs & self.faults.short:
            return 0
        alive = sum(1 for n in self.nodes.values() if n.state not in ("shutting-down", "terminated"))
        return 10**6 if self.faults.left is None else max(self.faults.left - alive, 0)

    def _create_fleet(self, call: Call) -> Answer:
        """The first place that has machines gives them all; the others are errors in the answer."""
        wanted = int(call.params["TargetCapacitySpecification.TotalTargetCapacity"])
        errors: list[str] = []
        for i in count(1):
            stem = f"LaunchTemplateConfigs.1.Overrides.{i}"
            about = {k.removeprefix(f"{stem}."): v for k, v in call.params.items() if k.startswith(f"{stem}.")}
            if not about:
                break
            subnet, zone = self._place(about)
            room = self.room(about.get("InstanceType", "*"), zone)
            if room > 0:
                return self._fulfil(call, about, subnet, min(room, wanted), errors)
            errors.append(_fleet_error(about, zone))
        text = f"<fleetId>fleet-0</fleetId><errorSet>{''.join(errors)}</errorSet><fleetInstanceSet/>"

        return answered(call, text)

    def _place(self, about: Mapping[str, str]) -> tuple[str, str]:
        subnets = {s.id: s.availability_zone for s in self.ec2.describe_subnets()}
        if "SubnetId" in about:
            return about["SubnetId"], subnets[about["SubnetId"]]
        zone = about.get("AvailabilityZone") or f"{self.region}a"
        return next(s for s, z in subnets.items() if z == zone), zone

    def _fulfil(self, call: Call, about: Mapping[str, str], subnet: str, n: int, errors: list[str]) -> Answer:
        kept = {k: v for k, v in call.params.items() if ".Overrides." not in k}
        stem = "LaunchTemplateConfigs.1.Overrides.1"
        override = {f"{stem}.{k}": v for k, v in {**about, "SubnetId": subnet}.items() if k != "AvailabilityZone"}
        total = {"TargetCapacitySpecification.TotalTargetCapacity": str(n)}
        answer = self.moto(call, form(call, {**kept, **override, **total}))
        body = answer.body.decode().replace(
            "</CreateFleetResponse>", f"<errorSet>{''.join(errors)}</errorSet></CreateFleetResponse>"
        )
        return Answer(answer.status, body.encode(), answer.kind)

    def _named(self, call: Call, *, only: tuple[str, ...]) -> list[FakeNode]:
        ids = call.items("InstanceId")
        missing = [i for i in ids if i not in self.nodes or self.nodes[i].state == "terminated"]
        if missing and call.action != "TerminateInstances":
            raise Refusal("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(missing)}' do not exist")
        unknown = [i for i in ids if i not in self.nodes]
        if unknown:
            bad = not all(i.startswith("i-") for i in unknown)
            code = "InvalidInstanceID.Malformed" if bad else "InvalidInstanceID.NotFound"
            raise Refusal(code, f"The instance IDs '{', '.join(unknown)}' do not exist")
        nodes = [self.nodes[i] for i in ids]
        wrong = [n.node_id for n in nodes if n.state not in only]
        if wrong:
            raise Refusal("IncorrectInstanceState", f"The instance '{wrong[0]}' is not in a state for this.")
        return nodes

    def _start(self, call: Call) -> Answer:
        nodes = self._named(call, only=("stopped", "pending", "running"))
        asleep = [(n, n.rests_as) for n in nodes if n.state == "stopped"]
        for n, _ in asleep:
            if self.room(n.instance.instance_type, n.instance.placement.zone) < 1 and self.faults.left is None:
                raise Refusal("InsufficientInstanceCapacity", "We have no capacity there.", 500)
        answer = self.moto(call)
        for n, was in asleep:
            n.begin(self.now, was)
        return answer

    def _stop(self, call: Call) -> Answer:
        nodes = [n for n in self._named(call, only=("running", "stopping", "stopped")) if n.state == "running"]
        answer = self.moto(call)
        for n in nodes:
            n.halt(self.now, hibernate=call.params.get("Hibernate") == "true")
        return answer

    def _terminate(self, call: Call) -> Answer:
        nodes = self._named(call, only=("pending", "running", "stopping", "stopped", "shutting-down", "terminated"))
        answer = self.moto(call)
        for n in nodes:
            n.enter("terminated", self.now)
        return answer

    def _describe(self, call: Call) -> Answer:
        """What moto shows, less machines that are too new."""
        oldest = self.now - self.faults.listing_lag_s
        hidden = {i for i, n in self.nodes.items() if n.launched > oldest}
        kept = {key: list(r.instances) for key, r in self.ec2.reservations.items()}
        try:
            for r in self.ec2.reservations.values():
                r.instances = [i for i in r.instances if i.id not in hidden]
            return self.moto(call)
        finally:
            for key, r in self.ec2.reservations.items():
                r.instances = kept[key]

    def _quota(self, call: Call) -> Answer:
        """Of those that a test has set."""
        import json

        code = json.loads(call.params["body"])["QuotaCode"]
        if code not in self.quotas:
            raise _no_quota(code)
        return answered_json({"Quota": {"QuotaCode": code, "QuotaName": code, "Value": self.quotas[code]}})

    def _products(self, call: Call) -> Answer:
        import json

        body = json.loads(call.params["body"])
        wanted = {f["Field"]: f["Value"] for f in body["Filters"]}
        usd = self.prices.get(wanted.get("instanceType", ""))
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": str(usd)}}
        product = {"terms": {"OnDemand": {"x": {"priceDimensions": {"y": dimension}}}}}
        return answered_json({"PriceList": [json.dumps(product)] if usd is not None else []})


def _no_quota(code: str) -> Refusal:
    return Refusal("NoSuchResourceException", f"The quota {code} does not exist")


def _fleet_error(about: Mapping[str, str], zone: str) -> str:
    overrides = "".join(element(k[0].lower() + k[1:], v) for k, v in about.items())
    return (
        f"<item><launchTemplateAndOverrides><overrides>{overrides}</overrides></launchTemplateAndOverrides>"
        f"<lifecycle>on-demand</lifecycle><errorCode>InsufficientInstanceCapacity</errorCode>"
        f"<errorMessage>We currently do not have sufficient capacity in {zone}.</errorMessage></item>"
    )
