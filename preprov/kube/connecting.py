"""A connection to one cluster by the Kubernetes client, as `kubectl` would make it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from preprov.model.errors import ConfigError

AGAIN: Final = (429, 500, 502, 503, 504)
"""Answers after which the client asks again by itself, when the server says or a little later each time."""


def connect(kubeconfig: Path | None, context: str, *, retries: int = 3, where: str = "kubernetes") -> Any:
    """An `ApiClient`; nothing is asked of the cluster yet.

    Args:
        kubeconfig: a file; None = as `kubectl` finds it, or from within the cluster.
        context: of that file; "" = its current one.
        retries: of a request that is refused for the moment, or not answered; these are the only ones.
        where: for errors.

    Raises:
        ConfigError: the client is not installed, or no cluster is configured.
    """
    if find_spec("kubernetes") is None:
        hint = "pip install 'preprov[kubernetes]'"
        raise ConfigError("the Kubernetes client is not installed", where=where, hint=hint)
    from kubernetes import client
    from kubernetes import config as files
    from urllib3.util import Retry

    config: Any = files
    made = client.Configuration()
    try:
        if kubeconfig is None and not context and _inside_a_cluster():
            config.load_incluster_config(client_configuration=made)
        else:
            file = str(kubeconfig) if kubeconfig else None
            config.load_kube_config(file, context=context or None, client_configuration=made)
    except (config.ConfigException, OSError) as e:
        hint = "`kubeconfig` and `context` say where the cluster is; `kubectl config get-contexts`"
        raise ConfigError(f"no cluster is configured: {e}", where=where, hint=hint) from e
    made.retries = Retry(
        total=retries, status_forcelist=AGAIN, backoff_factor=0.5, allowed_methods=None, raise_on_status=False
    )
    return client.ApiClient(made)


def _inside_a_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file()
