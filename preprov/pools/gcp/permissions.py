"""Which of the rights that preprov needs are lacking, and the role that grants them, to be pasted; reads only."""

from typing import Any, Final, Literal

from preprov.contracts import Finding
from preprov.model.errors import PoolError
from preprov.model.pools import Mode
from preprov.pools.gcp.actions import ACT, OBSERVE
from preprov.pools.gcp.errors import calling, typed
from preprov.pools.gcp.options import GcpGroup

_MANAGER: Final = "https://cloudresourcemanager.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform.read-only"
_AT_ONCE: Final = 100


def examine(options: GcpGroup) -> Finding:
    """One finding about the rights on the project, in the mode of the pool."""
    what = f"group {options.where}: rights"
    wanted = (*OBSERVE, *ACT) if options.pool.mode in (Mode.FLOOR, Mode.FULL) else OBSERVE
    try:
        held = _held(options, wanted)
    except PoolError as e:
        return Finding(what, "warn", f"cannot be asked: {e.what}", e.hint)
    lacking = sorted(set(wanted) - held)
    if not lacking:
        return Finding(what, "ok", f"all {len(wanted)} are held on project {options.place.project}")
    state: Literal["bad", "warn"] = "bad" if set(lacking) & set(OBSERVE) else "warn"
    hint = (
        "those that a condition narrows to the pool's machines do not show here; else put this into role.yaml, and "
        f"gcloud iam roles create preprov --project={options.place.project} --file=role.yaml\n{role(tuple(lacking))}"
    )
    return Finding(what, state, f"missing on the project: {', '.join(lacking)}", hint)


def role(rights: tuple[str, ...]) -> str:
    """A custom role that grants them, as gcloud reads it."""
    lines = ["title: preprov", "stage: GA", "includedPermissions:", *(f"- {r}" for r in sorted(rights))]
    return "\n".join(lines)


def _held(options: GcpGroup, wanted: tuple[str, ...]) -> set[str]:
    """Those of the rights that the caller holds on the project."""
    held: set[str] = set()
    place = options.place
    url = f"{place.endpoint or _MANAGER}/v1/projects/{place.project}:testIamPermissions"
    session = read_only_session(place.endpoint)
    for i in range(0, len(wanted), _AT_ONCE):
        with calling(options.where):
            answer = session.post(url, json={"permissions": list(wanted[i : i + _AT_ONCE])}, timeout=30)
        if answer.status_code != 200:
            raise typed("", f"testIamPermissions: {answer.status_code}", options.where, answer.status_code)
        held |= set(answer.json().get("permissions", ()))
    return held


def read_only_session(endpoint: str) -> Any:
    """For Google's services without a client of their own here; without credentials where an endpoint is named."""
    import requests

    if endpoint:
        return requests.Session()
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    auth: Any = google.auth
    make: Any = AuthorizedSession
    return make(auth.default(scopes=[_SCOPE])[0])
