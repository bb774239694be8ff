"""EC2 from within: IMDSv2 for reading, tags on the instance for writing.

Tags have to be allowed in the instance's metadata. They are written by `ec2:CreateTags` with the machine's role, whose
policy lets it write `preprov:report.*` and `preprov:notice` on itself and nothing else.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from preprov.agent.clouds import Machine
from preprov.agent.clouds.http import CloudError, Http
from preprov.agent.clouds.sigv4 import Keys, signed
from preprov.model.notes import CONTROLLER, CREATED, DRAIN, FENCE, PRELOAD, SLURM_NODE, STARTED

_METADATA: Final = "http://169.254.169.254"
_TOKEN_S: Final = 21600
_KEYS_S: Final = 600.0
"""Credentials are read anew this often; the service renews them long before they end."""
_HEEDED: Final = (DRAIN, FENCE, STARTED, CREATED, SLURM_NODE, f"{PRELOAD}.", f"{CONTROLLER}.")
"""Each tag is a reading of its own, so only those that an agent acts on are read."""
_API_VERSION: Final = "2016-11-15"
_SOON_S: Final = 120.0


class Aws:
    """See `preprov.agent.clouds.Letterbox`."""

    name = "aws"

    def __init__(self, metadata: str = "", api: str = "", wall: Callable[[], float] = time.time) -> None:
        self._http = Http(metadata or _METADATA)
        self._api = api
        self._wall = wall
        self._token = ""
        self._keys: tuple[float, Keys] | None = None
        self._region = self._node_id = ""
        self._ec2: Http | None = None

    def machine(self) -> Machine:
        """As the contract says."""
        self._node_id = self._must("instance-id")
        self._region = self._must("placement/region")
        return Machine(
            self._node_id,
            self._must("instance-type"),
            self._must("placement/availability-zone"),
            self._must("local-ipv4"),
        )

    def orders(self) -> Mapping[str, str]:
        """As the contract says: those of its tags that are orders."""
        listed = self._look("tags/instance")
        if listed is None:
            raise CloudError("tags are not in the instance's metadata: set instance_metadata_tags = enabled")
        keys = [k for k in listed.split() if k.startswith(_HEEDED)]
        found = {k: self._look(f"tags/instance/{quote(k, safe='')}") for k in keys}
        return {k: v for k, v in found.items() if v is not None}

    def post(self, notes: Mapping[str, str]) -> None:
        """As the contract says."""
        form = {"Action": "CreateTags", "Version": _API_VERSION, "ResourceId.1": self._node_id}
        for i, (key, value) in enumerate(notes.items(), 1):
            form |= {f"Tag.{i}.Key": key, f"Tag.{i}.Value": value}
        body, http = urlencode(form), self._endpoint()
        try:
            http.ask("POST", "/", self._signed(http.host, body), body)
        except CloudError as e:
            if e.status != 403:
                raise
            self._keys = None  # expired, or of a role that was changed: once more with what is given now
            http.ask("POST", "/", self._signed(http.host, body), body)

    def notice(self) -> tuple[str, float] | None:
        """As the contract says: a spot instance's last two minutes, or that it is likelier to be taken."""
        action = self._look("spot/instance-action")
        if action is not None:
            return "interruption", _instant(str(json.loads(action).get("time", "")), self._wall() + _SOON_S)
        advice = self._look("events/recommendations/rebalance")
        if advice is not None:
            return "rebalance", _instant(str(json.loads(advice).get("noticeTime", "")), self._wall())
        return None

    def in_service(self) -> bool:
        """As the contract says: an Auto Scaling group means it to serve, or it is in none."""
        state = self._look("autoscaling/target-lifecycle-state")
        return state is None or state.strip() == "InService"

    # ---- inside

    def _must(self, path: str) -> str:
        found = self._look(path)
        if not found:
            raise CloudError(f"the metadata service has no {path}")
        return found.strip()

    def _look(self, path: str) -> str | None:
        for attempt in range(2):
            headers = {"X-aws-ec2-metadata-token": self._session()}
            try:
                return self._http.get(f"/latest/meta-data/{path}", headers)
            except CloudError as e:
                if e.status != 401 or attempt:
                    raise
                self._token = ""
        return None

    def _session(self) -> str:
        """The session token; a machine behind too many hops gets no answer to this."""
        if not self._token:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
            self._token = self._http.ask("PUT", "/latest/api/token", headers).strip()
        return self._token

    def _endpoint(self) -> Http:
        if self._ec2 is None:
            domain = (self._look("services/domain") or "amazonaws.com").strip()
            self._ec2 = Http(self._api or f"https://ec2.{self._region}.{domain}", timeout_s=10.0)
        return self._ec2

    def _signed(self, host: str, body: str) -> Mapping[str, str]:
        now = self._wall()
        if self._keys is None or now - self._keys[0] > _KEYS_S:
            self._keys = (now, self._credentials())
        return signed(host, body, service="ec2", region=self._region, keys=self._keys[1], at=now)

    def _credentials(self) -> Keys:
        role = (self._look("iam/security-credentials/") or "").split()
        if not role:
            raise CloudError("the machine has no role: give it an instance profile that may tag it")
        raw = json.loads(self._must(f"iam/security-credentials/{role[0]}"))
        return Keys(str(raw["AccessKeyId"]), str(raw["SecretAccessKey"]), str(raw["Token"]))


def _instant(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return otherwise
