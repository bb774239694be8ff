"""What is asked of a Prometheus: a query per resource, its unit, and whose use a series is."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from preprov.model.errors import ConfigError

RESOURCES: Final = (
    "cpu", "memory", "disk_io", "network", "gpu", "gpu_memory",
    "working_set", "page_faults", "read_ops", "write_ops", "disk_ops",
)  # fmt: skip
"""What can be asked for: the fields of `Usage`."""
_MEMORY: Final = ("memory", "working_set", "gpu_memory")
_RATES: Final = ("page_faults", "read_ops", "write_ops", "disk_ops")
UNITS: Final[Mapping[str, tuple[tuple[str, ...], float]]] = MappingProxyType(
    {
        "cores": (("cpu",), 1.0),
        "millicores": (("cpu",), 1e-3),
        "percent": (("cpu", "gpu"), 1e-2),
        "bytes": (_MEMORY, 2.0**-30),
        "MiB": (_MEMORY, 2.0**-10),
        "GiB": (_MEMORY, 1.0),
        "bytes/s": (("disk_io", "network"), 1e-6),
        "MB/s": (("disk_io", "network"), 1.0),
        "devices": (("gpu",), 1.0),
        "1/s": (_RATES, 1.0),
    }
)
"""Unit -> the resources it can be of, and how many of ours (cores, GiB, MB/s, devices, 1/s) one is."""


@dataclass(frozen=True)
class UsageQuery:
    """One question.

    Attributes:
        resource: of what. promql: gives an amount, not a counter: `rate` sees to it that a counter which began anew is
            no use below zero. unit: of the amount, a key of UNITS.
        claimant: whose use a series is, with {label} for labels: the name of a task instance, `RUN/TASK#0`.
        labels: label -> regular expression whose named groups are labels too; it has to match the whole value.

    Raises:
        ConfigError: the resource has no such unit, a pattern is none, or the claimant names what nothing gives.
    """

    resource: str
    promql: str
    unit: str
    claimant: str
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.resource not in UNITS[self.unit][0]:
            units = ", ".join(u for u, (of, _) in UNITS.items() if self.resource in of)
            raise ConfigError(
                f"{self.resource} is not counted in {self.unit}", hint=f"unit of {self.resource}: {units}"
            )
        for label, pattern in self.labels.items():
            try:
                re.compile(pattern)
            except re.error as e:
                raise ConfigError(f"the pattern of label {label} is none: {e}", hint="a regular expression") from None
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.claimant) if name is not None]
        except ValueError as e:
            raise ConfigError(f"claimant {self.claimant!r}: {e}", hint="{namespace}/{pod}") from None
        if not names or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n) for n in names):
            raise ConfigError(f"claimant {self.claimant!r} names no label", hint="{namespace}/{pod}")

    @property
    def scale(self) -> float:
        """How many of ours one unit is."""
        return UNITS[self.unit][1]

    def whose(self, labels: Mapping[str, str]) -> str | None:
        """The claimant of a series; None if its labels do not tell."""
        known = {k: v for k, v in labels.items() if v}
        for label, pattern in self.labels.items():
            match = re.fullmatch(pattern, labels.get(label, ""))
            if match is None:
                return None
            known.update({k: v for k, v in match.groupdict().items() if v})
        try:
            return self.claimant.format_map(known)
        except KeyError:
            return None


_READERS: Final = (
    (r".+/.+#.+", "task instances: sizing and curves of their tasks"),
    (r"\{namespace\}/\{pod\}", "pods of a source of kind kubernetes: sizing and curves of their tasks"),
    (r"slurm/[^/]+", "jobs on one node, of a source of kind slurm: sizing and curves of their tasks"),
    (r"node/[^/]+", "machines: shown with their nodes by `pool show`; no task is sized by them"),
)
"""Claimant, as it is configured, and what becomes of samples that are named so."""


def reader_of(claimant: str) -> str:
    """Who looks for samples of such a claimant, and for what; "" = nobody."""
    return next((text for pattern, text in _READERS if re.fullmatch(pattern, claimant)), "")


def _of(resource: str, promql: str, unit: str) -> tuple[str, str, str]:
    return resource, promql, unit


_UID, _JOB = "label_batch_kubernetes_io_controller_uid", "label_batch_kubernetes_io_job_name"
_GENERATED: Final = r"([-_.]\d+|-[0-9a-f]{3})?(-([a-f0-9]{8,10}-)?[bcdfghjklmnpqrstvwxz2456789]{5})?"
"""Ends of Jobs' names that are no part of their task's: as `signature_sources.kubernetes` takes them off."""


def _jobs(of_pods: str) -> str:
    """By Job instead of by pod, as kube-state-metrics tells whose a pod is; a second one of those counts once."""
    pods = f'max by (namespace, pod, {_JOB}, {_UID}) (kube_pod_labels{{{_UID}!=""}})'
    return f"sum by (namespace, {_JOB}, {_UID}) ({of_pods} * on (namespace, pod) group_left ({_JOB}, {_UID}) {pods})"


_CADVISOR: Final = 'container!="",container!="POD"'
_PRESETS: Final[Mapping[str, tuple[tuple[tuple[str, str, str], ...], str, Mapping[str, str]]]] = MappingProxyType(
    {
        "cadvisor": (
            (
                _of(
                    "cpu",
                    f"sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{{{_CADVISOR}}}[2m]))",
                    "cores",
                ),
                _of("memory", f"sum by (namespace, pod) (container_memory_working_set_bytes{{{_CADVISOR}}})", "bytes"),
                _of(
                    "disk_io",
                    f"sum by (namespace, pod) (rate(container_fs_reads_bytes_total{{{_CADVISOR}}}[2m])"
                    f" + rate(container_fs_writes_bytes_total{{{_CADVISOR}}}[2m]))",
                    "bytes/s",
                ),
                _of(
                    "network",
                    "sum by (namespace, pod) (rate(container_network_receive_bytes_total[2m])"
                    " + rate(container_network_transmit_bytes_total[2m]))",
                    "bytes/s",
                ),
                _of(
                    "page_faults",
                    "sum by (namespace, pod) (rate(container_memory_failures_total"
                    f'{{{_CADVISOR},failure_type="pgmajfault",scope="container"}}[2m]))',
                    "1/s",
                ),
                _of(
                    "disk_ops",
                    f"sum by (namespace, pod) (rate(container_fs_reads_total{{{_CADVISOR}}}[2m])"
                    f" + rate(container_fs_writes_total{{{_CADVISOR}}}[2m]))",
                    "1/s",
                ),
            ),
            "{namespace}/{pod}",
            {},
        ),
        "slurm": (
            (
                _of("cpu", 'sum by (cgroup) (rate(cgroup_cpu_total_seconds{cgroup=~".*/job_[0-9]+"}[2m]))', "cores"),
                _of("memory", 'sum by (cgroup) (cgroup_memory_rss_bytes{cgroup=~".*/job_[0-9]+"})', "bytes"),
            ),
            "slurm/{job}",
            {"cgroup": r".*/job_(?P<job>\d+)"},
        ),
        "node": (
            (
                _of("cpu", 'sum by (instance) (rate(node_cpu_seconds_total{mode!~"idle|iowait|steal"}[2m]))', "cores"),
                _of("memory", "node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes", "bytes"),
                _of(
                    "disk_io",
                    "sum by (instance) (rate(node_disk_read_bytes_total[2m])"
                    " + rate(node_disk_written_bytes_total[2m]))",
                    "bytes/s",
                ),
                _of(
                    "network",
                    'sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[2m])'
                    ' + rate(node_network_transmit_bytes_total{device!="lo"}[2m]))',
                    "bytes/s",
                ),
            ),
            "node/{node}",
            {"instance": r"(?P<node>[^:]+)(:\d+)?"},
        ),
    }
)
PRESETS: Final = MappingProxyType(
    {
        **_PRESETS,
        "jobs": (
            tuple((resource, _jobs(promql), unit) for resource, promql, unit in _PRESETS["cadvisor"][0]),
            "{namespace}/{job}@{uid}/{task}#0",
            {_UID: "(?P<uid>.{8}).*", _JOB: f"(?P<job>(?P<task>.+?){_GENERATED})"},
        ),
    }
)
"""Name -> queries (resource, PromQL, unit), the claimant, patterns of labels."""


def preset(name: str, claimant: str = "", labels: Mapping[str, str] | None = None) -> tuple[UsageQuery, ...]:
    """The queries of a preset, with another mapping where one is given."""
    queries, whose, patterns = PRESETS[name]
    kept = dict(labels) if labels else dict(patterns)
    return tuple(UsageQuery(*q, claimant=claimant or whose, labels=kept) for q in queries)
