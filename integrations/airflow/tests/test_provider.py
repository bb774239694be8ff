"""What Airflow is told of the provider, and the hook."""

import json
import subprocess
import sys

import pytest

from preprov_provider import get_provider_info
from preprov_provider.client import Client, PreprovError, PreprovUnavailable
from preprov_provider.hooks.preprov import PreprovHook


def test_being_asked_imports_nothing():
    code = "import preprov_provider as p, sys; p.get_provider_info(); print({'airflow', 'httpx'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_every_module_that_is_named_is_there():
    from importlib import import_module

    info = get_provider_info()
    named = [
        m
        for kind in ("hooks", "operators", "sensors", "triggers")
        for part in info[kind]
        for m in part["python-modules"]
    ]
    assert len(named) == 4
    for module in named:
        import_module(module)
    module, _, name = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name).conn_type == info["connection-types"][0]["connection-type"]


def test_airflow_finds_the_provider_its_connection_type_and_the_listener():
    from importlib.metadata import entry_points

    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "airflow-provider-preprov" in manager.providers
    assert "preprov" in manager.hooks
    (plugin,) = [e.load() for e in entry_points(group="airflow.plugins") if e.name == "preprov"]
    assert hasattr(plugin.listeners[0], "on_dag_run_running")


def test_the_connection_can_be_tested(preprov):
    ok, said = PreprovHook().test_connection()
    assert ok, said
    assert "1 pools" in said


def test_a_wrong_token_and_a_preprov_that_is_down_are_told(preprov, monkeypatch):
    wrong = {"conn_type": "preprov", "host": preprov.url, "password": "other"}
    monkeypatch.setenv("AIRFLOW_CONN_PREPROV_DEFAULT", json.dumps(wrong))
    ok, said = PreprovHook().test_connection()
    assert (ok, "a token is needed" in said) == (False, True)
    preprov.close()
    ok, said = PreprovHook().test_connection()
    assert (ok, "does not answer" in said) == (False, True)


@pytest.mark.parametrize(
    ("trust", "taken"), [("ca", True), ("folder", False), (False, True), (True, False), (None, False)]
)
def test_a_connection_says_which_certificates_it_trusts(preprov, monkeypatch, certified, tmp_path, trust, taken):
    context, authority = certified
    places = {"ca": str(authority), "folder": str(tmp_path)}  # a folder of authorities has names of its own
    extra = {} if trust is None else {"verify": places.get(trust, trust)}
    said = {"conn_type": "preprov", "host": preprov.secured(context), "password": "preprov_secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PREPROV_DEFAULT", json.dumps(said))
    assert PreprovHook().test_connection()[0] is taken


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({"host": "https://p.example.com/"}, "https://p.example.com"),
        ({"host": "p.example.com", "port": 8470}, "http://p.example.com:8470"),
        ({"host": "p.example.com", "port": 443, "schema": "https"}, "https://p.example.com:443"),
        ({}, "http://127.0.0.1"),
    ],
)
def test_addresses(connection, url, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PREPROV_DEFAULT", json.dumps({"conn_type": "preprov", **connection}))
    assert PreprovHook().settings == {"url": url, "token": "", "verify": True}


def test_what_is_refused_is_told_apart_from_what_is_not_answered(preprov):
    client = Client(preprov.url, "preprov_secret")
    with pytest.raises(PreprovError, match="no reservation x/y") as error:
        client.look("x/y")
    assert error.value.status == 404
    preprov.down = True
    with pytest.raises(PreprovUnavailable):
        client.look("x")
