"""A provider that is not at hand, as Terraform's tests with mocks need it: its published schema, with nothing behind.

Terraform asks a mocked provider for its schema alone. It is read from the provider's cdktf package (see `schemas.py`)
and served by the plugin protocol, version 6, to a Terraform that is told where it listens (TF_REATTACH_PROVIDERS).
What the package does not tell is guessed: several blocks are a list (some are sets), an argument that may be left out
is null then (some are worked out by the cloud).
"""

import ast
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.terraform.schemas import META

_LIST = 2  # how blocks nest, in the protocol's words


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _type(text: str) -> bytes:
    """A type of an annotation as the protocol has it, in JSON."""
    inner = "number" if "jsii.Number" in text else "string" if "builtins.str" in text else "bool"
    if "Mapping" in text:
        return json.dumps(["map", "string"]).encode()
    return json.dumps(["list", inner] if "Sequence" in text or "List[" in text else inner).encode()


def _attribute(name: str, text: str, *, required: bool = False, given: bool = True) -> bytes:
    kind = _number(4, 1) if required else _number(5, 1) if given else b""
    computed = _number(6, 1) if not given or name == "id" else b""
    return _bytes(2, _bytes(1, name) + _bytes(2, _type(text)) + kind + computed)


def _block(class_: str, classes: Mapping[str, ast.ClassDef]) -> bytes:
    """A block with its arguments, its blocks, and what the cloud works out."""
    body, out, seen = classes[class_].body, b"", set(META)
    init = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = ast.unparse(arg.annotation) if arg.annotation else ""
        if arg.arg in META:
            continue
        seen.add(arg.arg)
        inner = [w for w in re.findall(r"['\"](\w+)['\"]", text) if w in classes]
        if inner:
            most = b"" if "Sequence" in text else _number(5, 1)
            least = _number(4, 1) if default is None else b""
            nested = _bytes(1, arg.arg) + _bytes(2, _block(inner[0], classes)) + _number(3, _LIST) + least + most
            out += _bytes(3, nested)
        else:
            out += _attribute(arg.arg, text, required=default is None)
    for name, text in _computed(body):
        if name not in seen:
            out += _attribute(name, text, given=False)
    return out


def _computed(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """(name, type) of what can be read and not set."""
    for node in body:
        if not isinstance(node, ast.FunctionDef) or node.returns is None or node.name.endswith("_input"):
            continue
        text = ast.unparse(node.returns)
        plain = re.fullmatch(r"builtins\.str|jsii\.Number|typing\.List\[builtins\.str\]", text)
        if plain and {"builtins.property"} & {ast.unparse(d) for d in node.decorator_list}:
            yield node.name, text


def schema(package: Path, provider: str, types: set[str]) -> bytes:
    """The answer to GetProviderSchema: these resource types, and a provider without settings."""
    out = _bytes(1, _bytes(2, b""))
    for type_ in sorted(types):
        module = package / type_.removeprefix(f"{provider}_")
        tree = ast.parse((module / "__init__.py").read_text(encoding="utf-8"))
        classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
        top = next(c for c in classes if c.lower() == module.name.replace("_", ""))
        out += _bytes(2, _bytes(1, type_) + _bytes(2, _bytes(2, _block(top, classes))))
    return out


@contextmanager
def served(package: Path, provider: str, types: set[str], at: Path) -> Iterator[dict[str, Any]]:
    """The provider, listening at a socket in the folder; the environment that tells Terraform of it."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    answers = {"GetProviderSchema": schema(package, provider, types)}

    class Provider(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
        def service(self, call: Any) -> Any:
            service, method = call.method.strip("/").split("/")
            if service != "tfplugin6.Provider":
                return None
            # Nothing to say is a valid answer to every other question.
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: answers.get(method, b""))

    socket = at / f"{provider}.sock"
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Provider()])
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    where = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,
        "Addr": {"Network": "unix", "String": str(socket)},
    }
    try:
        yield {"TF_REATTACH_PROVIDERS": json.dumps({f"registry.terraform.io/hashicorp/{provider}": where})}
    finally:
        server.stop(None).wait()
