"""The page's shell: served without a token because there is nothing in it, and nothing outside its folder is."""

import re
from importlib.resources import files

import pytest

from preprov.web.shell import HEADERS
from tests.unit.web.conftest import Site

FOLDER = files("preprov.web") / "page"
NAMES = sorted(f.name for f in FOLDER.iterdir() if f.is_file())
TYPES = {"html": "text/html", "css": "text/css", "js": "javascript", "svg": "image/svg+xml"}


def policy(text: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


def test_the_shell_needs_no_token(site: Site) -> None:
    for path in ("/", *(f"/page/{n}" for n in NAMES)):
        answer = site.http.get(path)
        assert answer.status_code == 200, path
        assert TYPES[path.rpartition(".")[2] if "." in path else "html"] in answer.headers["content-type"]
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value]
        assert "set-cookie" not in answer.headers
        if path != "/":
            again = site.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.headers["etag"]) == (304, answer.headers["etag"])


def test_the_policy_lets_in_nothing_but_the_page_itself(site: Site) -> None:
    allowed = policy(site.http.get("/").headers["content-security-policy"])
    assert allowed["default-src"] == "'none'"
    assert set(allowed.values()) == {"'none'", "'self'"}
    assert {"base-uri", "form-action", "frame-ancestors"} <= {k for k, v in allowed.items() if v == "'none'"}


def test_nothing_of_a_pool_or_a_token_is_in_the_shell(site: Site) -> None:
    secret = site.token("red")
    shell = "".join(site.http.get(p).text for p in ("/", *(f"/page/{n}" for n in NAMES)))
    assert "batch" not in shell
    assert secret not in shell


OUTSIDE = (
    "../shell.py",
    "..%2fshell.py",
    "%2e%2e/shell.py",
    "....//shell.py",
    "..%5cshell.py",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "nothing.js",
    "",
    "%00",
)


def test_nothing_outside_the_folder_is_served(site: Site) -> None:
    for path in OUTSIDE:
        answer = site.http.get(f"/page/{path}")
        assert answer.status_code in (404, 405), path
        assert answer.headers["content-type"] == "application/problem+json"


def test_only_reading_is_possible(site: Site) -> None:
    assert site.http.post("/").status_code == 405
    assert site.http.put("/page/main.js", content=b"x").status_code == 405
    assert site.http.head("/page/main.js").status_code == 200
    assert site.http.head("/").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_the_page_asks_nobody_else_and_parses_no_markup(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    elsewhere = set(re.findall(r"(?:https?:)?//[a-z][\w.-]*", text)) - {"http://www.w3.org"}
    assert not {e for e in elsewhere if e.startswith("http")}, elsewhere
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "cookie"):
        assert way not in text, way
    if name == "index.html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", text)
        for what in re.findall(r'(?:src|href)="page/([^"]+)"', text):
            assert what in NAMES
    for what in re.findall(r'from "\./([^"]+)"', text):
        assert what in NAMES
