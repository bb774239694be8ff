"""AWS Signature Version 4, as far as one POST with a form needs it."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True)
class Keys:
    """Credentials of the machine's role. Never logged."""

    access: str
    secret: str
    token: str

    def __repr__(self) -> str:
        return "Keys(…)"


def signed(host: str, body: str, *, service: str, region: str, keys: Keys, at: float) -> Mapping[str, str]:
    """Headers of `POST /` with that form to that host, signed at an instant (epoch seconds)."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    headers = {"content-type": FORM, "host": host, "x-amz-date": stamp, "x-amz-security-token": keys.token}
    names = ";".join(headers)
    canonical = "\n".join(["POST", "/", "", *(f"{k}:{v}" for k, v in headers.items()), "", names, _sha256(body)])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, _sha256(canonical)])
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    proof = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={proof}"
    sent = {"Content-Type": FORM, "X-Amz-Date": stamp, "X-Amz-Security-Token": keys.token}
    return {**sent, "Authorization": credential}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
