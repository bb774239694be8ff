"""The connection to preprov."""

from functools import cached_property
from typing import Any

from preprov_provider.client import Client, PreprovError
from preprov_provider.compat import BaseHook


class PreprovHook(BaseHook):
    """Speaks to `preprov serve`.

    The connection's host and port say where it is (or the whole address in host), its schema is http or https, its
    password a token of `preprov token create` with the scopes reserve and report, and read where slots of an Airflow
    pool follow capacity. Extra may hold `verify`: false, or a file of certificates.
    """

    conn_name_attr = "preprov_conn_id"
    default_conn_name = "preprov_default"
    conn_type = "preprov"
    hook_name = "preprov"

    def __init__(self, preprov_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        """Look nothing up yet."""
        super().__init__(**kwargs)
        self.preprov_conn_id = preprov_conn_id

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, Any]:
        """What the form of a connection shows."""
        return {
            "hidden_fields": ["login"],
            "relabeling": {"password": "Token", "schema": "http or https"},
            "placeholders": {
                "host": "preprov.example.com",
                "port": "8470",
                "schema": "https",
                "password": "preprov_…",
                "extra": '{"verify": true}',
            },
        }

    @cached_property
    def settings(self) -> dict[str, Any]:
        """url, token and verify, of the connection."""
        c = self.get_connection(self.preprov_conn_id)
        host = (c.host or "127.0.0.1").rstrip("/")
        if "://" not in host:
            host = f"{c.schema or 'http'}://{host}"
            host = f"{host}:{c.port}" if c.port else host
        return {"url": host, "token": c.password or "", "verify": c.extra_dejson.get("verify", True)}

    @cached_property
    def client(self) -> Client:
        """A client for this thread."""
        return Client(**self.settings)

    def get_conn(self) -> Client:
        """The same, by the name that hooks give it."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Whether preprov answers, can serve, and takes the token."""
        try:
            ready = self.client.ready()
            held = self.client.reservations()
        except PreprovError as error:
            return False, str(error)
        pools, live = ready.get("pools", "?"), len(held.get("reservations", ()))
        return True, f"preprov is ready: {pools} pools, {live} live reservations of this token's tenant"
