"""/v1/events: what orchestrators tell."""

from types import MappingProxyType

from fastapi import APIRouter

from preprov.control.reporting import hear
from preprov.model.events import Event
from preprov.web.documents import EventsAsk, HeardPart
from preprov.web.security import Reporter

router = APIRouter(prefix="/v1/events", tags=["events"])


@router.post("", summary="Tell what happened to runs")
def tell(ask: EventsAsk, caller: Reporter) -> HeardPart:
    """Runs and tasks that were queued, started or finished elsewhere. May be told again: each event counts once."""
    tenant = caller.tenant(ask.tenant)
    for name in {e.pool for e in ask.events if e.pool}:
        caller.pool(name)
    heard = hear(
        caller.ctx,
        [
            Event(
                tenant=tenant,
                source=ask.source,
                event_id=e.event_id,
                kind=e.kind,
                at=e.at,
                dag_id=e.dag_id,
                run_id=e.run_id,
                task_id=e.task_id,
                pool=e.pool,
                state=e.state,
                request=e.request.resources() if e.request else None,
                instances=e.instances,
                reservation_id=e.reservation_id,
                details=MappingProxyType(dict(e.details)),
            )
            for e in ask.events
        ],
    )
    return HeardPart(accepted=heard.accepted, duplicates=heard.duplicates)
