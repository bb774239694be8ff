"""/v1/nodes: what a node says of itself, once; and the warmings of a node as they end."""

from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import StreamingResponse

from preprov.contracts import LeadObservation
from preprov.control.calling import node_says
from preprov.web.documents import HeardStatePart, Label, StateAsk, WarmingPart
from preprov.web.listening import STREAM, LastEventId, Said, answer
from preprov.web.problems import Problem
from preprov.web.security import Caller, NodeCaller, Reader, bad_token

router = APIRouter(prefix="/v1/nodes", tags=["nodes"])

_LATELY: Final = timedelta(minutes=10)
Id = Annotated[Label, Path(description="As the cloud names it.")]


@router.post("/{node_id}/state", status_code=202, summary="A node says that it is ready, or failed")
def say(node_id: Id, ask: StateAsk, caller: NodeCaller) -> HeardStatePart:
    """With the one-time token that the controller gave it; the controller then looks at its pool at once.

    Nothing is believed: what the cloud shows of the node decides. A token speaks for its own node and pool only, and a
    request that names another one does not use it up.
    """
    token = caller.token
    if token.node_id != node_id or token.pools != (ask.pool,):
        raise Problem(403, "this token speaks for another node", kind="OtherNode")
    if not node_says(caller.ctx, token, ask.phase, ask.reason):
        raise bad_token()
    return HeardStatePart(node_id=node_id, phase=ask.phase)


@router.get(
    "/{node_id}/events",
    summary="Listen to a node becoming ready",
    response_class=StreamingResponse,
    responses=STREAM,
)
def listen(node_id: Id, caller: Reader, request: Request, last: LastEventId = None) -> StreamingResponse:
    """An event `warmed` for each warming that a pass has seen the end of, from ten minutes ago on; for administrators.

    Nodes serve everybody; a tenant listens to its reservations instead. A comment is sent while nothing happens.
    """
    if not caller.token.is_admin:
        raise Problem(403, "a node serves every tenant", kind="NoScope", hint="listen to the reservation")
    since = caller.ctx.clock.now() - _LATELY
    state, tenant = request.app.state, caller.token.tenant
    return answer(state.listeners, tenant, lambda told: _warmed(caller, node_id, since, told), last, state.pace)


def _warmed(caller: Caller, node_id: str, since: datetime, told: str) -> Said | None:
    """The first warming that ended after the one that was told of."""
    caller.still_good()
    after = _instant(told)
    for o in caller.ctx.ports.leads.observations(since=after or since):
        if o.outcome == "partial" or (after is not None and o.at <= after):
            continue
        if o.node_id == node_id and caller.token.sees_pool(o.pool):
            return Said(o.at.isoformat(), "warmed", _part(o).model_dump_json())
    return None


def _instant(event_id: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(event_id)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _part(o: LeadObservation) -> WarmingPart:
    return WarmingPart(
        node_id=o.node_id,
        pool=o.pool,
        group=o.group,
        ready=o.outcome == "ready",
        at=o.at,
        seconds=o.seconds,
        came_from=str(o.came_from),
    )
