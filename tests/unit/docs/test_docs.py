"""Every command in the documentation runs, in the order in which it stands, in a folder and a home of its own."""

import io
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from preprov.cli.main import run as preprov

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(p for kind in ("tutorial", "how-to", "explanation") for p in (ROOT / "docs" / kind).glob("*.md"))
BLOCK = re.compile(
    r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$|^<!-- wait: (?P<wait>.*?) \| (?P<text>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)


class Reader:
    """Does what a page says."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "PREPROV_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.background: list[subprocess.Popen[bytes]] = []

    def read(self, page: Path) -> int:
        done = 0
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block["wait"]:
                self.wait_for(block["wait"], block["text"])
            elif " file=" in block["info"]:
                (self.folder / block["info"].split(" file=")[1].strip()).write_text(block["body"])
            elif block["info"].strip() == "console":
                for line in block["body"].splitlines():
                    assert line.startswith("$ "), f"{page.name}: {line!r} is not a command"
                    self.run(line[2:])
                    done += 1
        return done

    def run(self, line: str) -> None:
        tolerated = line.endswith(" || true")
        line = line.removesuffix(" || true")
        words = shlex.split(line.removesuffix(" &"))
        env = dict(self.env)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        if line.endswith(" &"):
            log = (self.folder / "background.log").open("wb")
            self.background.append(
                subprocess.Popen(words, cwd=self.folder, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )
            return
        code, out = self.said(words, env)
        good = (0, 3) if "--check" in words else (0, 1) if "doctor" in words else (0,)
        assert tolerated or code in good, f"$ {line}\n{out}"

    def said(self, words: list[str], env: dict[str, str]) -> tuple[int, str]:
        """Code and output of a command; preprov itself is called here: to start it takes longer than most commands."""
        if words[0] == "preprov" and env == self.env:
            text = io.StringIO()
            with chdir(self.folder), redirect_stdout(text), redirect_stderr(text):
                return preprov(words[1:]), text.getvalue()
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode, done.stdout

    def wait_for(self, line: str, text: str, limit: float = 100) -> None:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            _, out = self.said(shlex.split(line), self.env)
            if text in out:
                return
            time.sleep(0.5)
        background = (self.folder / "background.log").read_text()
        raise AssertionError(f"$ {line} never said {text!r}; last:\n{out}\nbackground:\n{background}")

    def close(self) -> None:
        for process in self.background:
            process.terminate()
            process.wait(timeout=30)
        self.said(["preprov", "halt", "--release", "--yes"], self.env)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_commands_of_the_page_run(page: Path, tmp_path: Path, preprov_home: Path) -> None:
    reader = Reader(tmp_path, preprov_home)
    try:
        done = reader.read(page)
    finally:
        reader.close()
    assert done or page.parent.name == "explanation", "a page that shows how has commands"


def test_every_page_is_reachable_from_the_index_or_another_page() -> None:
    linked = set()
    for page in [ROOT / "docs" / "README.md", *PAGES]:
        linked |= {
            (page.parent / t).resolve() for t in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text(encoding="utf-8"))
        }
    assert [p.name for p in PAGES if p.resolve() not in linked] == []


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_the_generated_reference_is_up_to_date() -> None:
    out = subprocess.run(
        [sys.executable, "scripts/generate_reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stdout + out.stderr
