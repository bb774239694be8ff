"""The clusters that groups are in: each connected to when it is first asked for, and once, whoever asks."""

from preprov.kube.api import Cluster, Connection
from preprov.kube.place import Place


class Clusters:
    """Connections that the provider of a cluster's room and the scheduler of its tasks share."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Connection] = {}

    def of(self, place: Place, where: str) -> Cluster:
        """The cluster of a place; `where` is for errors.

        Raises:
            ConfigError: the client is not installed, or no cluster is configured.
        """
        key = (str(place.kubeconfig), place.context)
        if key not in self._made:
            self._made[key] = Connection.to(place.kubeconfig, place.context, where)
        return Cluster(self._made[key], where)
