"""The few calls that are made of a cluster, by its own Python client, as plain JSON; and what its refusals mean."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from preprov.kube.connecting import AGAIN, connect
from preprov.kube.labels import MANAGER
from preprov.model.errors import ConflictError, NotAuthorisedError, NotFoundError, PoolError, ThrottledError

Json: TypeAlias = dict[str, Any]

_TIMEOUT_S: Final = (5.0, 30.0)
_PAGE: Final = 500
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True)
class Custom:
    """A kind of object that a cluster has by a CustomResourceDefinition."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool


METRICS: Final = Custom("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", namespaced=True)
"""What pods use, as the metrics server says."""


@dataclass(frozen=True)
class Connection:
    """Two clients of one cluster. api: asks again what is refused for the moment. once: does not."""

    api: Any
    once: Any

    @classmethod
    def to(cls, kubeconfig: Path | None, context: str, where: str) -> "Connection":
        """As `connect` takes them. Raises ConfigError as it does."""
        return cls(connect(kubeconfig, context, where=where), connect(kubeconfig, context, retries=0, where=where))


class Cluster:
    """One cluster. Retries are the client's own, and obey Retry-After.

    Args:
        connection: to it. where: for errors.
    """

    def __init__(self, connection: Connection, where: str) -> None:
        self.where = where
        self._api, self._once = connection.api, connection.once

    def jobs(self, namespace: str, selector: str) -> list[Json]:
        """Jobs of a namespace with these labels."""
        from kubernetes import client

        batch: Any = client.BatchV1Api(self._api)
        return self._pages(batch.list_namespaced_job, namespace, label_selector=selector)

    def pods(self, *, namespace: str = "", labels: str = "", fields: str = "") -> list[Json]:
        """Pods with these labels or fields; of all namespaces if none is named."""
        from kubernetes import client

        core: Any = client.CoreV1Api(self._api)
        more = {k: v for k, v in (("label_selector", labels), ("field_selector", fields)) if v}
        if namespace:
            return self._pages(core.list_namespaced_pod, namespace, **more)
        return self._pages(core.list_pod_for_all_namespaces, **more)

    def nodes(self, selector: str) -> list[Json]:
        """Nodes with these labels."""
        from kubernetes import client

        return self._pages(client.CoreV1Api(self._api).list_node, label_selector=selector)

    def events(self, reason: str) -> list[Json]:
        """Events of all namespaces that have this reason: a cluster keeps them for an hour, as a rule."""
        from kubernetes import client

        core: Any = client.CoreV1Api(self._api)
        return self._pages(core.list_event_for_all_namespaces, field_selector=f"reason={reason}")

    def create_job(self, job: Json) -> bool:
        """Make a Job; False if one of that name is there, over or not."""
        from kubernetes import client

        batch: Any = client.BatchV1Api(self._api)
        try:
            with self._meant():
                batch.create_namespaced_job(
                    job["metadata"]["namespace"], job, field_manager=MANAGER, _request_timeout=_TIMEOUT_S
                )
        except ConflictError:
            return False
        return True

    def patch_job(self, job: Json, patch: Json) -> None:
        """Change a Job as it was seen: ConflictError if it has changed since."""
        from kubernetes import client

        meta = job["metadata"]
        batch: Any = client.BatchV1Api(self._api)
        with self._meant():
            batch.patch_namespaced_job(
                meta["name"],
                meta["namespace"],
                _as_seen(meta, patch),
                field_manager=MANAGER,
                _content_type=_MERGE,
                _request_timeout=_TIMEOUT_S,
            )

    def apply_node(self, node: Json) -> None:
        """Say what of a node is ours; ConflictError where somebody else says otherwise of it."""
        from kubernetes import client

        core: Any = client.CoreV1Api(self._api)
        with self._meant():
            core.patch_node(
                node["metadata"]["name"],
                node,
                field_manager=MANAGER,
                force=False,
                _content_type=_APPLY,
                _request_timeout=_TIMEOUT_S,
            )

    def patch_node(self, node: Json, patch: Json) -> None:
        """Change a node as it was seen: ConflictError if it has changed since."""
        from kubernetes import client

        core: Any = client.CoreV1Api(self._api)
        meta, how = node["metadata"], {"_content_type": _MERGE, "_request_timeout": _TIMEOUT_S}
        with self._meant():
            core.patch_node(meta["name"], _as_seen(meta, patch), field_manager=MANAGER, **how)

    def evict(self, pod: Json) -> str:
        """Ask for a pod to be moved; "" = it goes, else why a PodDisruptionBudget refuses it now.

        Asked once: a refusal may stand for long. NotFoundError if it is gone, or is another one by now.
        """
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        core: Any = client.CoreV1Api(self._once)
        meta = pod["metadata"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "deleteOptions": {"preconditions": {"uid": meta["uid"]}},
        }
        with self._meant():
            try:
                core.create_namespaced_pod_eviction(
                    meta["name"], meta["namespace"], body, _preload_content=False, _request_timeout=_TIMEOUT_S
                )
            except ApiException as e:
                if e.status == 409:
                    raise NotFoundError("another pod has its name by now", where=self.where) from e
                if e.status != 429 or not _by_budget(e):
                    raise
                return _reason(e)
        return ""

    def core(self) -> Any:
        """The client's own API of pods and nodes."""
        from kubernetes import client

        return client.CoreV1Api(self._api)

    def node(self, name: str) -> Json | None:
        """One node; None if there is none of that name."""
        found = self._pages(self.core().list_node, field_selector=f"metadata.name={name}")
        return found[0] if found else None

    def output(self, pod: Json, container: str) -> list[str]:
        """Lines that a container has printed; none if it has not begun, or is gone."""
        meta, read = pod["metadata"], self.core().read_namespaced_pod_log
        try:
            with self._meant():
                told = read(
                    meta["name"],
                    meta["namespace"],
                    container=container,
                    _preload_content=False,
                    _request_timeout=_TIMEOUT_S,
                ).data
        except NotFoundError:
            return []
        return str(told.decode(errors="replace")).splitlines()

    def customs(self, kind: Custom, selector: str = "", namespace: str = "") -> list[Json]:
        """All objects of a kind with these labels; of one namespace if the kind has any."""
        from kubernetes import client

        custom: Any = client.CustomObjectsApi(self._api)
        more = {"label_selector": selector} if selector else {}
        place = (namespace,) if kind.namespaced else ()
        listed = custom.list_namespaced_custom_object if kind.namespaced else custom.list_cluster_custom_object
        return self._pages(listed, kind.group, kind.version, *place, kind.plural, **more)

    def custom(self, kind: Custom, namespace: str, name: str) -> Json:
        """One object; NotFoundError if there is none, or no such kind."""
        from kubernetes import client

        custom: Any = client.CustomObjectsApi(self._api)
        place = (namespace,) if kind.namespaced else ()
        get = custom.get_namespaced_custom_object if kind.namespaced else custom.get_cluster_custom_object
        with self._meant():
            found = get(kind.group, kind.version, *place, kind.plural, name, _request_timeout=_TIMEOUT_S)
        return dict(found)

    def patch_custom(self, kind: Custom, thing: Json, patch: Json) -> None:
        """Change an object as it was seen: ConflictError if it has changed since."""
        from kubernetes import client

        custom: Any = client.CustomObjectsApi(self._api)
        meta = thing["metadata"]
        place = (meta["namespace"],) if kind.namespaced else ()
        send = custom.patch_namespaced_custom_object if kind.namespaced else custom.patch_cluster_custom_object
        with self._meant():
            send(
                kind.group,
                kind.version,
                *place,
                kind.plural,
                meta["name"],
                _as_seen(meta, patch),
                field_manager=MANAGER,
                _content_type=_MERGE,
                _request_timeout=_TIMEOUT_S,
            )

    def version(self) -> str:
        """Of the server."""
        from kubernetes import client

        with self._meant():
            told: Any = client.VersionApi(self._api).get_code(_request_timeout=_TIMEOUT_S)
        return str(told.git_version)

    def may(self, verb: str, group: str, resource: str, namespace: str = "") -> bool:
        """Whether we may; a resource below another as "pods/log"."""
        from kubernetes import client

        of, _, below = resource.partition("/")
        more = {"subresource": below} if below else {}
        attributes = client.V1ResourceAttributes(group=group, resource=of, verb=verb, namespace=namespace, **more)
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        with self._meant():
            told: Any = client.AuthorizationV1Api(self._api).create_self_subject_access_review(
                review, _request_timeout=_TIMEOUT_S
            )
        return bool(told.status.allowed)

    def priority(self, name: str) -> int:
        """Value of a priority class; NotFoundError if there is none."""
        from kubernetes import client

        scheduling: Any = client.SchedulingV1Api(self._api)
        with self._meant():
            return int(scheduling.read_priority_class(name, _request_timeout=_TIMEOUT_S).value)

    # ---- inside

    def _pages(self, listed: Any, *where: str, **more: str) -> list[Json]:
        """Every item; a list that the server has forgotten meanwhile is begun anew by the next pass."""
        out: list[Json] = []
        token = ""
        while True:
            further = {"_continue": token} if token else {}
            with self._meant():
                answer = json.loads(
                    listed(
                        *where, limit=_PAGE, _preload_content=False, _request_timeout=_TIMEOUT_S, **more, **further
                    ).data
                )
            out += answer.get("items") or []
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return out

    @contextmanager
    def _meant(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as e:
            raise _refused(e.status, _reason(e), self.where) from e
        except (HTTPError, OSError) as e:
            hint = "is the API server up? `kubectl version`"
            raise ThrottledError(f"no answer: {type(e).__name__}", where=self.where, hint=hint) from e
        except ValueError as e:
            raise ThrottledError(f"an answer that is no JSON: {e}", where=self.where, hint="observe again") from e


def _as_seen(meta: Json, patch: Json) -> Json:
    return {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": meta["resourceVersion"]}}


def _by_budget(error: Any) -> bool:
    """A budget says so; a server that is busy answers with the same code."""
    try:
        causes = (json.loads(error.body).get("details") or {}).get("causes") or ()
    except (ValueError, AttributeError, TypeError):
        return False
    return any(c.get("reason") == "DisruptionBudget" for c in causes)


def _reason(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _refused(status: int | None, why: str, where: str) -> PoolError:
    if status in (401, 403):
        hint = "`preprov kubernetes manifests` prints the role it needs"
        return NotAuthorisedError(f"not allowed: {why}", where=where, hint=hint)
    if status == 404:
        return NotFoundError(f"not there: {why}", where=where, hint="observe again")
    if status == 409:
        return ConflictError(f"changed meanwhile: {why}", where=where, hint="observe again, then decide again")
    if status is None or status == 410 or status in AGAIN:
        return ThrottledError(f"refused for now ({status})", where=where, hint="the next pass asks again")
    return PoolError(f"refused: {status} {why}", where=where, hint="`preprov kubernetes manifests` shows what is sent")
