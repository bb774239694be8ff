"""What AWS's APIs look like on the wire: requests read, answers and errors written."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

from preprov.model.notes import NOTICE, REPORT
from preprov.testing.fake_metadata import INSTANCE_KEY

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_NAMESPACE = {
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "autoscaling": "http://autoscaling.amazonaws.com/doc/2011-01-01/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}


@dataclass(frozen=True)
class Call:
    """One request. `at`: epoch seconds on the fake's clock. `key`: whose credentials signed it."""

    service: str
    action: str
    region: str
    at: float
    params: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def name(self) -> str:
        """As policies name it."""
        return f"{self.service}:{self.action}"

    def items(self, prefix: str) -> list[str]:
        """Values of a list parameter, `prefix.1`, `prefix.2`, …, in order."""
        found = [(k, v) for k, v in self.params.items() if re.fullmatch(rf"{re.escape(prefix)}(\.member)?\.\d+", k)]
        return [v for k, v in sorted(found, key=lambda kv: int(kv[0].rsplit(".", 1)[1]))]


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    kind: str = "text/xml"


@dataclass(frozen=True)
class Refusal(Exception):
    """An error as AWS names it."""

    code: str
    message: str
    status: int = 400


def refuse_as_instance(call: Call) -> None:
    """Let a machine write its own reports, as the policy of its role does, and nothing else.

    Raises:
        Refusal: it asks for something else.
    """
    keys = [v for k, v in call.params.items() if re.fullmatch(r"Tag\.\d+\.Key", k)]
    itself = call.items("ResourceId") == [call.key.removeprefix(INSTANCE_KEY)]
    reports = all(k.startswith(f"{REPORT}.") or k == NOTICE for k in keys)
    if call.name != "ec2:CreateTags" or not itself or not reports:
        raise Refusal("UnauthorizedOperation", f"You are not authorized to perform {call.name}.", 403)


def read_call(environ: Mapping[str, Any], body: bytes, at: float) -> Call:
    """Service and region come from the signature, the action from the form or the target header."""
    scope = _SCOPE.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    key, region, service = (scope[1], scope[2], scope[3]) if scope else ("", "", "")
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return Call(service, target.rsplit(".", 1)[-1], region, at, {"body": body.decode()}, key)
    params = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return Call(service, params.pop("Action", ""), region, at, params, key)


def form(call: Call, params: Mapping[str, str]) -> bytes:
    """The body of that call with other parameters."""
    return urlencode({"Action": call.action, **params}).encode()


def refused(call: Call, why: Refusal) -> Answer:
    """An error in the words of the call's protocol."""
    code, message = escape(why.code), escape(why.message)
    if "body" in call.params:
        text = json.dumps({"__type": why.code, "message": why.message})
        return Answer(why.status, text.encode(), "application/x-amz-json-1.0")
    if call.service == "ec2":
        xml = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
    else:
        inner = f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
        xml = f"<ErrorResponse><Error>{inner}</Error><RequestId>fake</RequestId></ErrorResponse>"
    return Answer(why.status, xml.encode())


def answered(call: Call, inner: str) -> Answer:
    """A success whose result is that XML."""
    space = _NAMESPACE.get(call.service, "")
    if call.service == "ec2":
        xml = f'<{call.action}Response xmlns="{space}"><requestId>fake</requestId>{inner}</{call.action}Response>'
    else:
        result = f"<{call.action}Result>{inner}</{call.action}Result>"
        meta = "<ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata>"
        xml = f'<{call.action}Response xmlns="{space}">{result}{meta}</{call.action}Response>'
    return Answer(200, xml.encode())


def answered_json(value: Mapping[str, Any]) -> Answer:
    """A success of a JSON protocol."""
    return Answer(200, json.dumps(value).encode(), "application/x-amz-json-1.1")


def element(name: str, value: object) -> str:
    """`<name>value</name>`; "" for None."""
    return "" if value is None else f"<{name}>{escape(str(value))}</{name}>"


def members(name: str, each: Iterable[str], item: str = "member") -> str:
    """A list of XML fragments."""
    return f"<{name}>{''.join(f'<{item}>{one}</{item}>' for one in each)}</{name}>"
