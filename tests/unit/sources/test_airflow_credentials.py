"""Proving who asks: MWAA, Composer, tokens, basic authentication; and what the configuration makes of it."""

import httpx
import pytest
from botocore.exceptions import ClientError
from google.auth.exceptions import DefaultCredentialsError

from preprov import configfile, sourcing
from preprov.clocks import WallClock
from preprov.model.errors import ConfigError, SourceError
from preprov.sources.airflow.credentials import basic, bearer, composer, exchanged, mwaa, nobody


def answering(**answers: httpx.Response):
    """A way to ask that answers by the end of the address."""
    asked = []

    def ask(method: str, url: str, **more: object) -> httpx.Response:
        asked.append((method, url, more))
        answer = next(a for end, a in answers.items() if url.endswith(end))
        answer.request = httpx.Request(method, url)
        return answer

    ask.asked = asked  # type: ignore[attr-defined]
    return ask


class Mwaa:
    """What boto3 gives for MWAA."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.named = ""

    def __call__(self, region: str) -> "Mwaa":
        self.region = region
        return self

    def create_web_login_token(self, Name: str) -> dict[str, str]:
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": "no"}}, "CreateWebLoginToken")
        self.named = Name
        return {"WebServerHostname": "abc.airflow.amazonaws.com", "WebToken": "once"}


def test_mwaa_exchanges_a_login_of_aws_for_a_session():
    cloud = Mwaa()
    credential = mwaa("prod", "eu-central-1", cloud)
    ask = answering(login=httpx.Response(200, headers={"set-cookie": "session=s1; Path=/"}))
    assert credential(ask) == {"Cookie": "session=s1"}
    assert (cloud.named, cloud.region) == ("prod", "eu-central-1")
    assert credential.url == "https://abc.airflow.amazonaws.com"
    assert ask.asked[0][1] == "https://abc.airflow.amazonaws.com/aws_mwaa/login"
    assert ask.asked[0][2] == {"data": {"token": "once"}}


def test_mwaa_with_airflow_3_gives_a_bearer_token():
    ask = answering(login=httpx.Response(200, headers={"set-cookie": "_token=jwt; Path=/"}))
    assert mwaa("prod", "", Mwaa())(ask)["Authorization"] == "Bearer jwt"


def test_what_mwaa_refuses_is_said():
    with pytest.raises(SourceError, match="AccessDenied") as error:
        mwaa("prod", "", Mwaa("AccessDenied"))(answering())
    assert "airflow:CreateWebLoginToken" in error.value.hint
    with pytest.raises(SourceError, match="refuses its own login"):
        mwaa("prod", "", Mwaa())(answering(login=httpx.Response(403)))
    with pytest.raises(SourceError, match="no session"):
        mwaa("prod", "", Mwaa())(answering(login=httpx.Response(200)))


class Google:
    """Application default credentials."""

    token, valid, refreshed = "g1", False, 0

    def refresh(self, _: object) -> None:
        self.refreshed += 1
        self.valid, self.token = True, "g2"


def test_composer_refreshes_googles_credentials_when_they_are_no_longer_valid(monkeypatch):
    from preprov.sources.airflow import credentials

    monkeypatch.setattr(credentials, "_google_request", lambda: None)
    google = Google()
    credential = composer(lambda: google)
    assert credential(answering()) == {"Authorization": "Bearer g2"}
    assert credential(answering()) == {"Authorization": "Bearer g2"}
    assert google.refreshed == 1


def test_composer_without_credentials_says_what_to_do():
    def none() -> object:
        raise DefaultCredentialsError("none found")

    with pytest.raises(SourceError, match="none found") as error:
        composer(none)(answering())
    assert "gcloud auth" in error.value.hint


def test_basic_bearer_and_nothing():
    assert basic("me", lambda: "pä")(answering()) == {"Authorization": "Basic bWU6cMOk"}
    assert bearer(lambda: "t")(answering()) == {"Authorization": "Bearer t"}
    assert nobody(answering()) == {}


def test_a_token_is_exchanged_and_what_is_no_airflow_is_told():
    ask = answering(token=httpx.Response(201, json={"access_token": "jwt"}))
    assert exchanged("https://af/x/", "me", lambda: "pw")(ask) == {"Authorization": "Bearer jwt"}
    assert ask.asked[0] == ("POST", "https://af/x/auth/token", {"json": {"username": "me", "password": "pw"}})
    with pytest.raises(SourceError, match="refuses me"):
        exchanged("https://af", "me", lambda: "pw")(answering(token=httpx.Response(401)))
    with pytest.raises(SourceError, match="no /auth/token"):
        exchanged("https://af", "me", lambda: "pw")(answering(token=httpx.Response(404)))
    for body in ("<html>", "[]", "{}"):
        with pytest.raises(SourceError, match="no access_token"):
            exchanged("https://af", "", None)(answering(token=httpx.Response(200, text=body)))


def section(**settings: object):
    (found,) = configfile.parse({"source": [{"name": "prod", "kind": "airflow", **settings}]}, "test").source
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://af", "user": "me", "password": {"env": "AF_PASSWORD"}},
        {"url": "https://af", "token": {"env": "AF_PASSWORD"}},
        {"url": "https://af", "auth": "basic", "user": "me", "password": {"env": "AF_PASSWORD"}},
        {"auth": "mwaa", "environment": "prod", "region": "eu-central-1"},
        {"url": "https://af", "auth": "composer"},
        {"url": "https://af", "auth": "none"},
    ],
)
def test_every_way_that_can_be_configured_is_wired(settings):
    source = sourcing.live_source(section(**settings), WallClock())
    assert (source.key, source.zone) == ("prod", "UTC")


def test_a_secret_is_looked_up_when_it_is_needed_and_never_shown(monkeypatch, tmp_path):
    found = section(url="https://af", user="me", password={"env": "AF_PASSWORD"})
    assert "hunter2" not in repr(found)
    (finding,) = sourcing.live_source(found, WallClock()).examine()
    assert finding.state == "bad"
    assert "AF_PASSWORD is not set" in finding.found
    with pytest.raises(ConfigError, match="cannot read"):
        section(url="https://af", user="me", password={"file": str(tmp_path / "no")}).password.read("password")
    (tmp_path / "yes").write_text("hunter2\n")
    assert (
        section(url="https://af", user="me", password={"file": str(tmp_path / "yes")}).password.read("p") == "hunter2"
    )
    for wrong in ({}, {"env": "A", "file": "b"}, "hunter2"):
        with pytest.raises(ConfigError):
            section(url="https://af", user="me", password=wrong)
