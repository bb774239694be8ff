"""What a pool's nodes are to hold, as user data that cloud-init runs at a machine's first boot.

It is a plain shell script: it finds a Python, unpacks the agent, writes down what the node is to hold and starts the
agent, which then says how far packages and commands are. It holds no secret: nodes read images and data with the rights
of their own role or identity.
"""

import base64
import gzip
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from preprov.model.errors import ConfigError
from preprov.model.offerings import Preload
from preprov.model.pools import Pool
from preprov.pools.nodes.package import Package

LIMITS: Final[Mapping[str, int]] = {"aws": 16 * 1024, "gcp": 256 * 1024, "azure": 64 * 1024}
"""Bytes of user data that each cloud takes, before base64."""
PORT: Final = 9411
_SECRET: Final = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|(?i:(?:password|passwd|secret|token|api_?key)\s*[=:]\s*[^\s$]{6,})"
)
_LINE: Final = 76


@dataclass(frozen=True)
class Source:
    """Where a node gets its agent from.

    Attributes:
        how: "embedded" in the user data, fetched from a "url", or "installed" by the machine's image.
        url: https, or what the cloud's own tool reads (s3, gs). sha256: of what is there.
    """

    how: Literal["embedded", "url", "installed"] = "embedded"
    url: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class UserData:
    """User data for one cloud.

    Attributes:
        script: what cloud-init runs. content: what the cloud is given: the script, or it compressed.
    """

    cloud: str
    script: str
    content: bytes

    @property
    def compressed(self) -> bool:
        """True if the content is not the script itself."""
        return self.content[:2] == b"\x1f\x8b"

    @property
    def limit(self) -> int:
        """Bytes that the cloud takes."""
        return LIMITS[self.cloud]


def user_data(
    pool: Pool, cloud: str, package: Package, source: Source, *, port: int = PORT, heartbeat_s: float | None = None
) -> UserData:
    """User data of the nodes of a pool.

    Args:
        pool: what its nodes are to hold, and when one counts as lost.
        cloud: "aws", "gcp" or "azure".
        package: the agent. source: how a node gets it.
        port: where nodes take tasks from preprov; 0 = nowhere, where a cluster hands them out.
        heartbeat_s: how often a node says that it is alive; None = three times before it would count as lost.

    Raises:
        ConfigError: no such cloud, a path of this machine or what looks like a secret is in it, or it is too long.
    """
    if cloud not in LIMITS:
        raise ConfigError(f"no user data for {cloud}", where=pool.name, hint=f"one of {', '.join(LIMITS)}")
    _check(pool.preload, pool.name)
    settings: dict[str, Any] = {
        "cloud": cloud,
        "home": "/var/lib/preprov/nodes",
        "setup": "/var/lib/preprov/setup.json",
        "preload": _preload(pool.preload),
        "port": port,
        "join": [["sh", "-e", "-c", c] for c in pool.preload.join],
        "heartbeat_s": heartbeat_s or max(min(pool.node_ttl_s / 3, 180.0), 10.0),
    }
    spec = {"packages": list(pool.preload.packages), "commands": list(pool.preload.commands)}
    script = _script(settings, spec, package, source, as_root=bool(pool.preload.join))
    return UserData(cloud, script, _fitting(script, cloud, pool.name))


def _check(preload: Preload, where: str) -> None:
    for uri in (*(i.uri for i in preload.images), *(d.uri for d in preload.datasets)):
        if "://" not in uri or uri.startswith("file:"):
            raise ConfigError(
                f"{uri} is on this machine, no node of a cloud has it",
                where=f"{where}, preload",
                hint="put it where nodes can read it: s3://, gs://, https://, docker:// …",
            )
    for text in (*preload.commands, *preload.join, *preload.packages):
        if _SECRET.search(text):
            raise ConfigError(
                f"what looks like a secret is in {text.split()[0]} …",
                where=f"{where}, preload",
                hint="whoever can read the machine can read it: have the node fetch it with its own rights",
            )


def _preload(preload: Preload) -> dict[str, Any]:
    """As an agent reads it."""
    return {
        "images": [{"key": i.digest or i.uri, "uri": i.uri, "digest": i.digest} for i in preload.images],
        "datasets": [{"key": d.key, "uri": d.uri, "sha256": d.sha256} for d in preload.datasets],
        "min_read_mb_s": preload.min_read_mb_s,
    }


def _fitting(script: str, cloud: str, where: str) -> bytes:
    """The script, compressed where only that fits: cloud-init unpacks it by itself."""
    plain, limit = script.encode(), LIMITS[cloud]
    if len(plain) <= limit:
        return plain
    packed = gzip.compress(plain, 9, mtime=0)
    if len(packed) <= limit:
        return packed
    raise ConfigError(
        f"user data would be {len(packed)} bytes compressed, {cloud} takes {limit}",
        where=where,
        hint="upload the agent (`preprov node package`) and name it with --agent-url, or bake an image",
    )


# ---- the script

_HEAD: Final = """#!/bin/sh
# Prepares this machine as a node of preprov. Run once by cloud-init, as root; running it again does no harm.
set -eu
umask 022
lib=/opt/preprov/lib

say() { echo "[preprov] $*"; }

python=
find_python() {
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            python=$(command -v "$name")
            return 0
        fi
    done
    return 1
}
install_python() {
    if command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        apt-get install -y -q --no-install-recommends python3 openssl ca-certificates
        find_python || apt-get install -y -q --no-install-recommends python3.11
    elif command -v dnf >/dev/null 2>&1; then
        dnf install -y -q python3.11 openssl
    elif command -v yum >/dev/null 2>&1; then
        yum install -y -q python3.11 openssl
    elif command -v zypper >/dev/null 2>&1; then
        zypper --non-interactive install python311 openssl
    elif command -v apk >/dev/null 2>&1; then
        apk add python3 openssl
    fi
    find_python
}
find_python || install_python || { say "there is no Python 3.11 or newer here, and none could be installed"; exit 1; }

mkdir -p "$lib" /etc/preprov /var/lib/preprov/nodes
"""

_UNPACK: Final = """
rm -rf "$lib/preprov"
"$python" - "$archive" "$lib" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    tar.extractall(sys.argv[2], filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(sys.argv[2])
PYTHON
rm -f "$archive"
"""

_EMBEDDED: Final = """
archive=$(mktemp)
base64 -d >"$archive" <<'AGENT'
{text}
AGENT
"""

_FETCHED: Final = """
archive=$(mktemp)
url={url}
case "$url" in
s3://*) aws s3 cp --only-show-errors "$url" "$archive" ;;
gs://*) gcloud storage cp "$url" "$archive" || gsutil -q cp "$url" "$archive" ;;
*) curl -fsSL --retry 5 -o "$archive" "$url" ;;
esac
echo {sum} "$archive" | sha256sum -c - >/dev/null || {{ say "the agent is not the one that was named"; exit 1; }}
"""

_INSTALLED: Final = """
[ -d "$lib/preprov/agent" ] || { say "this machine's image has no agent in $lib"; exit 1; }
"""

_TAIL: Final = """
cat >/etc/preprov/agent.json <<'SETTINGS'
{settings}
SETTINGS
cat >/etc/preprov/setup.json <<'SPEC'
{spec}
SPEC

user={user}
if [ "$user" != root ]; then
    if ! id "$user" >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/preprov --shell /usr/sbin/nologin "$user" || user=root
    fi
    chown -R "$user" /var/lib/preprov
fi

if [ -d /run/systemd/system ]; then
    cat >/etc/systemd/system/preprov-agent.service <<UNIT
[Unit]
Description=preprov: what this node holds and runs
Wants=network-online.target
After=network-online.target

[Service]
User=$user
Environment=PYTHONPATH=$lib
ExecStart=$python -S -P -m preprov.agent cloud /etc/preprov/agent.json
Restart=always
RestartSec=2
KillMode=process
Delegate=yes

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable preprov-agent.service
    systemctl restart preprov-agent.service
elif [ -z "${{PREPROV_NO_AGENT:-}}" ]; then
    PYTHONPATH=$lib nohup "$python" -S -P -m preprov.agent cloud /etc/preprov/agent.json \\
        >>/var/log/preprov-agent.log 2>&1 </dev/null &
fi

PYTHONPATH=$lib exec "$python" -S -P -m preprov.agent setup /etc/preprov/setup.json /var/lib/preprov/setup.json
"""


def _script(
    settings: Mapping[str, Any], spec: Mapping[str, Any], package: Package, source: Source, *, as_root: bool
) -> str:
    tail = _TAIL.format(
        settings=json.dumps(settings, indent=1), spec=json.dumps(spec, indent=1), user="root" if as_root else "preprov"
    )
    return _HEAD + _agent(package, source) + tail


def _agent(package: Package, source: Source) -> str:
    if source.how == "installed":
        return _INSTALLED
    if source.how == "url":
        return _FETCHED.format(url=shlex.quote(source.url), sum=source.sha256 or package.sha256) + _UNPACK
    text = base64.b64encode(package.content).decode()
    lines = "\n".join(text[i : i + _LINE] for i in range(0, len(text), _LINE))
    return _EMBEDDED.format(text=lines) + _UNPACK
