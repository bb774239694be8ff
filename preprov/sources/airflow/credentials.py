"""How to prove who asks: a token, basic authentication, Amazon MWAA, Cloud Composer.

Each is a small callable that may send requests and returns headers; it is called again when its headers are refused.
"""

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from preprov.model.errors import ConfigError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    import httpx

Ask: TypeAlias = Callable[..., "httpx.Response"]
"""Sends one request within the budget: (method, url, **more of httpx)."""
Credential: TypeAlias = Callable[[Ask], Mapping[str, str]]
"""Headers to ask with. Raises SourceError if none are to be had."""
Secret: TypeAlias = Callable[[], str]
"""Looks a secret up, anew each time."""


def nobody(_: Ask) -> Mapping[str, str]:
    """No credentials."""
    return {}


def basic(user: str, password: Secret) -> Credential:
    """A user and a password with each request."""

    def headers(_: Ask) -> Mapping[str, str]:
        pair = base64.b64encode(f"{user}:{password()}".encode()).decode("ascii")
        return {"Authorization": f"Basic {pair}"}

    return headers


def bearer(token: Secret) -> Credential:
    """A token that somebody else renews."""
    return lambda _: {"Authorization": f"Bearer {token()}"}


def exchanged(url: str, user: str, password: Secret | None) -> Credential:
    """A token of POST /auth/token, as Airflow 3 hands them out; without a user, what GET gives where all are admins."""

    def headers(ask: Ask) -> Mapping[str, str]:
        place = f"{url.rstrip('/')}/auth/token"
        if user and password is not None:
            answer = ask("POST", place, json={"username": user, "password": password()})
        else:
            answer = ask("GET", place)
        if answer.status_code in (401, 403):
            raise SourceError(
                f"Airflow refuses {user or 'a token without a user'}",
                where=place,
                hint="check user and password of the [[source]]; it needs a user of Airflow that may read",
            )
        if answer.status_code == 404:
            hint = 'Airflow 2 hands out no tokens: auth = "basic"; or the url lacks a path, such as /airflow'
            raise SourceError("there is no /auth/token", where=place, hint=hint)
        return {"Authorization": f"Bearer {_field(answer, 'access_token', place)}"}

    return headers


def mwaa(environment: str, region: str, client: Callable[[str], Any] | None = None) -> "MwaaCredential":
    """Amazon MWAA: a web login token of the AWS API, exchanged for a session."""
    return MwaaCredential(environment, region, client or _mwaa_client)


def _mwaa_client(region: str) -> Any:
    import boto3

    return boto3.client("mwaa", region_name=region or None)


class MwaaCredential:
    """Credential of Amazon MWAA; `url` is where its Airflow is."""

    def __init__(self, environment: str, region: str, client: Callable[[str], Any]) -> None:
        """See `mwaa`."""
        self._environment, self._region, self._client = environment, region, client
        self._host = ""

    @property
    def url(self) -> str:
        """Address of the environment's web server."""
        if not self._host:
            self._login()
        return f"https://{self._host}"

    def _login(self) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            told = self._client(self._region).create_web_login_token(Name=self._environment)
        except (BotoCoreError, ClientError) as error:
            raise SourceError(
                f"AWS gives no login to MWAA environment {self._environment}: {error}",
                where=self._environment,
                hint="its name and region, and the right airflow:CreateWebLoginToken",
            ) from error
        self._host = str(told["WebServerHostname"])
        return str(told["WebToken"])

    def __call__(self, ask: Ask) -> Mapping[str, str]:
        """A session's cookie; with Airflow 3 it is a bearer token too."""
        token = self._login()
        answer = ask("POST", f"{self.url}/aws_mwaa/login", data={"token": token})
        if answer.status_code >= 400:
            raise SourceError(
                f"MWAA refuses its own login ({answer.status_code})", where=self.url, hint="try again; see its logs"
            )
        found = {c.name: c.value for c in answer.cookies.jar if c.value}
        if not found:
            raise SourceError("MWAA gave no session", where=self.url, hint="does the role map to an Airflow role?")
        headers = {"Cookie": "; ".join(f"{n}={v}" for n, v in found.items())}
        if "_token" in found:
            headers["Authorization"] = f"Bearer {found['_token']}"
        return headers


def composer(credentials: Callable[[], Any] | None = None) -> Credential:
    """Cloud Composer 2 and newer: an access token of the application default credentials."""

    def headers(_: Ask) -> Mapping[str, str]:
        from google.auth.exceptions import GoogleAuthError

        try:
            found = (credentials or _google_credentials)()
            if not found.valid:
                found.refresh(_google_request())
        except GoogleAuthError as error:
            raise SourceError(
                f"Google gives no credentials: {error}",
                hint="gcloud auth application-default login, or a service account with composer.user",
            ) from error
        return {"Authorization": f"Bearer {found.token}"}

    return headers


def _google_credentials() -> Any:
    import google.auth

    found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return found


def _google_request() -> Any:
    from google.auth.transport.requests import Request

    return Request()


def _field(answer: "httpx.Response", name: str, place: str) -> str:
    try:
        value = answer.json()[name]
    except (ValueError, KeyError, TypeError):
        raise SourceUnavailableError(
            f"no {name} in the answer ({answer.status_code})", where=place, hint="is this Airflow's address?"
        ) from None
    return str(value)


def checked_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        ConfigError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{url!r} is not an address", where="[[source]] url", hint="https://airflow.example.com")
    return url.rstrip("/")
