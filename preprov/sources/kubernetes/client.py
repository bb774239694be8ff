"""Lists of a Kubernetes API server by its own Python client, page by page, and what changed since, as plain JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from preprov.contracts import Clock
from preprov.kube.connecting import AGAIN, connect
from preprov.model.errors import ConfigError, SourceError, SourceUnavailableError
from preprov.model.time import epoch
from preprov.sources.budget import RequestBudget
from preprov.sources.skew import HeardClock

Json: TypeAlias = dict[str, Any]

PAGE: Final = 500
_TIMEOUT_S: Final = (5.0, 30.0)
_WATCH_S: Final = 1
"""For so long the server waits for changes before it ends a watch: it takes whole seconds, and 0 is half an hour."""
_ROUNDS: Final = 40
_GONE: Final = 410
_KUEUE: Final = ("kueue.x-k8s.io", "workloads")


class KubernetesClient:
    """Asks one cluster. What is refused or not answered the client itself asks for again; an answer cut short, we do.

    Args:
        budget: how often. clock: ours, by which the server's own is judged.
        kubeconfig: a file; None = as `kubectl` finds it, or from within the cluster.
        context: of that file; "" = its current one.
        namespaces: that are read; none = all.
        retries: of a request that is refused for the moment, or not answered.
    """

    def __init__(
        self,
        budget: RequestBudget,
        clock: Clock,
        *,
        kubeconfig: Path | None = None,
        context: str = "",
        namespaces: tuple[str, ...] = (),
        retries: int = 3,
    ) -> None:
        self._budget, self._clock = budget, clock
        self._kubeconfig, self._context = kubeconfig, context
        self._retries = retries
        self._api: Any = None
        self.namespaces = namespaces
        self.clock = HeardClock(lambda: epoch(clock.now()))
        """Times of objects are by the clock of whoever made them: that of the API server, whose answers tell it."""

    @property
    def where(self) -> str:
        """Its address."""
        return str(self._connected().configuration.host)

    def jobs(self) -> Iterator[Json]:
        """All Jobs."""
        yield from self._all("job")

    def cron_jobs(self) -> Iterator[Json]:
        """All CronJobs."""
        yield from self._all("cron_job")

    def pages(self, kind: str, namespace: str) -> Iterator[tuple[str, list[Json]]]:
        """All objects of a kind ("job", "cron_job" or "pod") of a namespace ("" = of all), page by page.

        Gives the version of the list with each page, which is the same for all of them.

        Raises:
            ForgottenError: it took so long that the server forgot the list. Begin anew.
        """
        for answer in self._answers(self._listing(kind, namespace)):
            yield str((answer.get("metadata") or {}).get("resourceVersion") or ""), _items(answer)

    def since(self, kind: str, namespace: str, version: str) -> Iterator[tuple[str, Json]]:
        """(ADDED, MODIFIED, DELETED or BOOKMARK; object) of what changed since a version, as far as it is known now.

        Raises:
            ForgottenError: the server does not know any more what changed since then. List it whole.
            SourceUnavailableError: it was cut short; what was given is right.
        """
        listed = self._listing(kind, namespace)
        for _ in range(_ROUNDS):
            told = 0
            for what, thing in self._changes(listed, version):
                version, told = str((thing.get("metadata") or {}).get("resourceVersion") or version), told + 1
                yield what, thing
            if told < PAGE:  # else more may be waiting
                return

    def some(self, kind: str, namespace: str, **selector: str) -> Iterator[Json]:
        """Objects of a kind of a namespace, those that a selector takes (`label_selector`, `field_selector`)."""
        yield from self._pages(partial(self._listing(kind, namespace), **selector))

    def priority_classes(self) -> Iterator[Json]:
        """All priority classes; none where they may not be read."""
        from kubernetes import client

        yield from self._if_allowed(client.SchedulingV1Api(self._connected()).list_priority_class)

    def workloads(self) -> Iterator[Json]:
        """Kueue's workloads, in the version that the server likes best; none where there is no Kueue, or no right."""
        from kubernetes import client

        version = self.kueue()
        if not version:
            return
        api: Any = client.CustomObjectsApi(self._connected())
        group, plural = _KUEUE
        if not self.namespaces:
            yield from self._if_allowed(partial(api.list_cluster_custom_object, group, version, plural))
        for name in self.namespaces:
            yield from self._if_allowed(partial(api.list_namespaced_custom_object, group, version, name, plural))

    def kueue(self) -> str:
        """The version of Kueue's objects that the server likes best; "" = there is no Kueue."""
        from kubernetes import client

        told = self._json(client.ApisApi(self._connected()).get_api_versions).get("groups") or ()
        group = next((g for g in told if isinstance(g, dict) and g.get("name") == _KUEUE[0]), {})
        liked = [group.get("preferredVersion"), *(group.get("versions") or ())]
        return next((str(v["version"]) for v in liked if isinstance(v, dict) and v.get("version")), "")

    def version(self) -> str:
        """Of the server."""
        from kubernetes import client

        return str(self._json(client.VersionApi(self._connected()).get_code).get("gitVersion", "?"))

    def may(self, verb: str, group: str, resource: str, namespace: str = "") -> bool:
        """Whether we may."""
        from kubernetes import client

        attributes = client.V1ResourceAttributes(group=group, resource=resource, verb=verb, namespace=namespace)
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        api = client.AuthorizationV1Api(self._connected())
        told: Any = self._ask(lambda: api.create_self_subject_access_review(review, _request_timeout=_TIMEOUT_S))
        return bool(told.status.allowed)

    # ---- inside

    def _connected(self) -> Any:
        if self._api is None:
            try:
                self._api = connect(self._kubeconfig, self._context, retries=self._retries)
            except ConfigError as e:
                raise SourceError(e.what, where=e.where, hint=e.hint) from e
        return self._api

    def _listing(self, kind: str, namespace: str) -> Callable[..., Any]:
        from kubernetes import client

        api: Any = (client.CoreV1Api if kind == "pod" else client.BatchV1Api)(self._connected())
        if namespace:
            return partial(getattr(api, f"list_namespaced_{kind}"), namespace)
        return getattr(api, f"list_{kind}_for_all_namespaces")  # type: ignore[no-any-return]

    def _all(self, kind: str) -> Iterator[Json]:
        for name in self.namespaces or ("",):
            yield from self._pages(self._listing(kind, name))

    def _if_allowed(self, listed: Callable[..., Any]) -> Iterator[Json]:
        """Every item; none of what is not there, or may not be read."""
        try:
            yield from self._pages(listed)
        except SourceUnavailableError:
            raise
        except SourceError:
            return

    def _pages(self, listed: Callable[..., Any]) -> Iterator[Json]:
        """Every item. A list that took so long that the server forgot it is begun anew: items may come twice."""
        while True:
            try:
                for answer in self._answers(listed):
                    yield from _items(answer)
            except ForgottenError:
                continue
            return

    def _answers(self, listed: Callable[..., Any]) -> Iterator[Json]:
        """Page by page."""
        token = ""
        while True:
            answer = self._json(listed, limit=PAGE, **({"_continue": token} if token else {}))
            yield answer
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return

    def _changes(self, listed: Callable[..., Any], version: str) -> Iterator[tuple[str, Json]]:
        """What one watch tells before the server ends it."""
        from kubernetes.watch import watch

        lines: Any = watch.iter_resp_lines
        with self._meant():
            turn = self._budget.take()
            began = epoch(self._clock.now())
            try:
                answer = listed(
                    watch=True,
                    resource_version=version,
                    allow_watch_bookmarks=True,
                    timeout_seconds=_WATCH_S,
                    _preload_content=False,
                    _request_timeout=_TIMEOUT_S,
                )
            finally:
                self._budget.answered(turn)  # what it is silent for then is no slowness
            self.clock.hear(answer.headers.get("date"), began)
            with closing(answer):
                for line in lines(answer):
                    told = json.loads(line)
                    if not isinstance(told, dict) or not isinstance(told.get("object"), dict):
                        raise ValueError("not a change")
                    if told.get("type") == "ERROR":
                        raise _refused(told["object"].get("code"), told["object"].get("reason"), self.where)
                    yield str(told.get("type")), told["object"]

    def _json(self, asked: Callable[..., Any], **more: Any) -> Json:
        """What is answered, without a model made of each object."""

        def ask() -> Json:
            turn = epoch(self._clock.now())
            answer = asked(_preload_content=False, _request_timeout=_TIMEOUT_S, **more)
            self.clock.hear(answer.headers.get("date"), turn)
            told = json.loads(answer.data)
            if not isinstance(told, dict):
                raise ValueError("not an object")
            return told

        import stamina

        attempts = self._retries + 1
        for attempt in stamina.retry_context(on=_CutShortError, attempts=attempts, wait_initial=0.5, wait_max=5.0):
            with attempt:
                return dict(self._ask(ask))
        raise AssertionError("stamina ends by an answer or an error")

    def _ask(self, call: Callable[[], Any]) -> Any:
        began = self._budget.take()
        try:
            with self._meant():
                return call()
        finally:
            self._budget.answered(began)

    @contextmanager
    def _meant(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = self.where
        try:
            yield
        except ApiException as e:
            raise _refused(e.status, e.reason, where) from e
        except (HTTPError, OSError) as e:
            hint = "is the address right, and the API server up? `kubectl version`"
            raise SourceUnavailableError(f"no answer: {type(e).__name__}", where=where, hint=hint) from e
        except ValueError as e:
            hint = "the next pass asks again"
            raise _CutShortError(f"an answer that is no JSON: {e}", where=where, hint=hint) from e


class _CutShortError(SourceUnavailableError):
    """The answer is no JSON: it was cut off on its way."""


class ForgottenError(Exception):
    """The server no longer knows where the list goes on, or what changed since it."""


def _items(answer: Json) -> list[Json]:
    return [i for i in answer.get("items") or () if isinstance(i, dict)]


def _refused(status: int | None, reason: object, where: str) -> Exception:
    if status == _GONE:
        return ForgottenError()
    if status in (401, 403):
        hint = "a role that may list jobs, cronjobs and pods: `preprov source test` says which it lacks"
        return SourceError(f"not allowed ({status})", where=where, hint=hint)
    if status is None or status in AGAIN:
        return SourceUnavailableError(f"refused for now ({status})", where=where, hint="the next pass asks again")
    return SourceError(f"refused: {status} {reason}", where=where, hint="is this a Kubernetes API server?")
