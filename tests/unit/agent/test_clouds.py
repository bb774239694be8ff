"""A machine finds out who it is and what it is told, and leaves word, through each cloud's own metadata service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from preprov.agent.clouds import CloudError, Letterbox, Machine, letterbox
from preprov.agent.clouds.http import Http
from preprov.agent.clouds.sigv4 import Keys, signed
from preprov.model.notes import DRAIN, NOTICE, POOL, PRELOAD, REPORT, SLURM_NODE, gather, spread
from preprov.testing.fake_metadata import Asked, AwsMetadata, AzureMetadata, GcpMetadata, MetadataServer, Vm

CLOUDS = ("aws", "gcp", "azure")
NOTES = {
    POOL: "night",
    DRAIN: "yes",
    SLURM_NODE: "cn7",
    **spread(PRELOAD, {"images": [], "datasets": [{"key": "a@1"}]}),
}


class Cloud:
    """A machine `vm` of a cloud, and its API that keeps what was sent to it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.vm = Vm("i-1", "large", "zone-1", "10.0.0.7", dict(NOTES), resource_id="/subscriptions/s/vm/i-1")
        self.server: MetadataServer = {
            "aws": lambda: AwsMetadata(self.look, "region-1"),
            "gcp": lambda: GcpMetadata(self.look),
            "azure": lambda: AzureMetadata(self.look),
        }[kind]()
        self.api = Api()
        self.up = True

    def look(self, name: str) -> Vm | None:
        return self.vm if self.up and name == "i-1" else None

    def box(self) -> Letterbox:
        return letterbox(self.kind, self.server.url("i-1"), self.api.url("i-1"))


class Api(MetadataServer):
    """Takes whatever is sent."""

    def __init__(self) -> None:
        super().__init__(lambda _: Vm("i-1", "", "", ""))
        self.got: list[Asked] = []

    def answer(self, vm: Vm, asked: Asked) -> str:
        self.got.append(asked)
        return "{}"


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr("preprov.agent.clouds.http._LONGEST_WAIT_S", 0.01)
    made = Cloud(request.param)
    with made.server, made.api:
        yield made


def test_a_machine_knows_who_it_is(cloud: Cloud) -> None:
    assert cloud.box().machine() == Machine("i-1", "large", "zone-1", "10.0.0.7")


def test_it_reads_what_the_controller_noted(cloud: Cloud) -> None:
    box = cloud.box()
    box.machine()
    notes = box.orders()
    assert notes[DRAIN] == "yes"
    assert notes[SLURM_NODE] == "cn7"
    assert gather(PRELOAD, notes) == {"images": [], "datasets": [{"key": "a@1"}]}
    cloud.vm.notes = {}
    assert box.orders().get(DRAIN) is None


def test_it_never_takes_its_own_word_for_an_order(cloud: Cloud) -> None:
    cloud.vm.notes = {**NOTES, f"{REPORT}.0": "1.x", NOTICE: "interruption@1"}
    box = cloud.box()
    box.machine()
    if cloud.kind != "gcp":  # there the two are kept apart
        assert not {k for k in box.orders() if k.startswith(REPORT) or k == NOTICE}


def test_it_leaves_word(cloud: Cloud) -> None:
    box = cloud.box()
    box.machine()
    box.orders()
    box.post({f"{REPORT}.0": "1.abc"})
    if cloud.kind == "gcp":
        assert cloud.vm.posted == {f"{REPORT}.0": "1.abc"}
        return
    (sent,) = cloud.api.got
    if cloud.kind == "aws":
        assert sent.body.startswith(
            "Action=CreateTags&Version=2016-11-15&ResourceId.1=i-1&Tag.1.Key=preprov%3Areport.0"
        )
        assert "/region-1/ec2/aws4_request" in sent.headers["authorization"]
    else:
        assert json.loads(sent.body) == {"operation": "Merge", "properties": {"tags": {f"{REPORT}.0": "1.abc"}}}
        assert sent.path.endswith("/subscriptions/s/vm/i-1/providers/Microsoft.Resources/tags/default")


def test_it_hears_of_its_end(cloud: Cloud) -> None:
    box = cloud.box()
    box.machine()
    box.orders()
    assert box.notice() is None
    cloud.vm.notice = ("interruption", 2_000_000_000.0)
    box.orders()
    kind, when = box.notice() or ("", 0.0)
    assert kind == "interruption"
    if cloud.kind != "gcp":  # which says that it is, not when
        assert when == 2_000_000_000.0


def test_what_is_kept_in_standby_is_not_in_service(cloud: Cloud) -> None:
    box = cloud.box()
    box.machine()
    assert box.in_service()
    cloud.vm.lifecycle, cloud.vm.standby = "Warmed:Stopped", True
    box.orders()
    assert box.in_service() is (cloud.kind == "gcp")
    cloud.vm.lifecycle, cloud.vm.standby = "InService", False
    box.orders()
    assert box.in_service()


def test_throttled_and_failing_services_are_asked_again(cloud: Cloud) -> None:
    cloud.server.faults.next.extend([429, 503, 500])
    assert cloud.box().machine().node_id == "i-1"


def test_a_refusal_is_not_asked_again(cloud: Cloud) -> None:
    cloud.server.faults.next.extend([403])
    with pytest.raises(CloudError, match="403") as e:
        cloud.box().machine()
    assert e.value.status == 403
    assert len(cloud.server.asked) == 1


def test_a_service_that_does_not_answer_is_given_up(cloud: Cloud) -> None:
    cloud.server.faults.silent = True
    with pytest.raises(CloudError):
        cloud.box().machine()
    assert len(cloud.server.asked) == 4


def test_what_the_template_did_not_allow_is_said_plainly(cloud: Cloud) -> None:
    cloud.vm.allowed = False
    box = cloud.box()
    box.machine()

    def use() -> None:
        box.orders()
        box.post({f"{REPORT}.0": "1.abc"})

    with pytest.raises(CloudError, match=r"tags|Guest attributes|Identity"):
        use()


def test_an_expired_session_is_begun_anew() -> None:
    cloud = Cloud("aws")
    with cloud.server, cloud.api:
        assert isinstance(cloud.server, AwsMetadata)
        box = cloud.box()
        box.machine()
        cloud.server.expire_tokens()
        assert box.orders()[DRAIN] == "yes"
        assert [m for m, _ in cloud.server.asked].count("PUT") == 2


_GCP = "/computeMetadata/v1/instance/?recursive=true"
_TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
_VIA = {"X-Forwarded-For": "x"}


@pytest.mark.parametrize(
    ("kind", "method", "path", "headers", "status"),
    [
        ("aws", "GET", "/latest/meta-data/instance-id", {}, 401),
        (
            "aws",
            "PUT",
            "/latest/api/token",
            {"X-aws-ec2-metadata-token-ttl-seconds": "60", "X-Forwarded-For": "x"},
            403,
        ),
        ("aws", "PUT", "/latest/api/token", {}, 400),
        ("gcp", "GET", _GCP, {}, 403),
        (
            "gcp",
            "GET",
            _GCP,
            {"Metadata-Flavor": "Google", "X-Forwarded-For": "x"},
            403,
        ),
        ("azure", "GET", "/metadata/instance?api-version=1", {}, 400),
        ("azure", "GET", "/metadata/instance", {"Metadata": "true"}, 400),
        ("azure", "GET", "/metadata/elsewhere?api-version=1", {"Metadata": "true"}, 404),
    ],
)
def test_the_fakes_refuse_what_the_real_ones_refuse(
    kind: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    cloud = Cloud(kind)
    with cloud.server, cloud.api, pytest.raises(CloudError) as e:
        Http(cloud.server.url("i-1"), tries=1).ask(method, path, headers)
    assert e.value.status == status


def test_signatures_are_those_that_the_sdk_makes() -> None:
    body, at, host = "Action=CreateTags&Tag.1.Key=preprov%3Areport.0", 1_770_000_000.0, "ec2.eu-central-1.amazonaws.com"
    ours = signed(host, body, service="ec2", region="eu-central-1", keys=Keys("A", "S", "T"), at=at)
    headers = {k: ours[k] for k in ("Content-Type", "X-Amz-Date")}
    request = AWSRequest("POST", f"https://{host}/", headers=headers, data=body)
    request.headers["X-Amz-Security-Token"] = "T"
    request.context["timestamp"] = ours["X-Amz-Date"]
    signer = SigV4Auth(Credentials("A", "S", "T"), "ec2", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert ours["Authorization"].endswith(f"Signature={signature}")


def test_keys_do_not_show() -> None:
    assert "S3CRET" not in repr(Keys("A", "S3CRET", "T"))


def test_the_firmware_tells_the_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vendor = tmp_path / "sys_vendor"
    monkeypatch.setattr("preprov.agent.clouds._VENDOR", vendor)
    for text, name in (("Amazon EC2\n", "aws"), ("Google\n", "gcp"), ("Microsoft Corporation\n", "azure")):
        vendor.write_text(text)
        assert letterbox().name == name
    vendor.write_text("Acme\n")
    with pytest.raises(CloudError, match="Acme"):
        letterbox()
