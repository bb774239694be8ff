"""/v1/windows: a share of a pool at the same hours again and again. Its turns are reservations."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from preprov.control import windows
from preprov.control.windows import AskedWindow
from preprov.model.windows import RecurringWindow
from preprov.web.documents import Label
from preprov.web.problems import not_found
from preprov.web.routes.reservations import Key
from preprov.web.security import Caller, Reserver
from preprov.web.windows import WindowAsk, WindowList, WindowPart

router = APIRouter(prefix="/v1/windows", tags=["reservations"])

Id = Annotated[Label, Path(description="As `POST /v1/windows` answered it.")]


def _part(window: RecurringWindow) -> WindowPart:
    return WindowPart.model_validate(window.as_dict())


def _found(caller: Caller, window_id: str) -> RecurringWindow:
    for window in caller.ctx.ports.windows.windows(tenant=caller.sees):
        if window.window_id == window_id and caller.token.sees_pool(window.pool):
            return window
    raise not_found(f"there is no window {window_id}")


@router.post(
    "",
    status_code=201,
    summary="Reserve the same hours again and again",
    responses={200: {"model": WindowPart, "description": "This key was used before: the same window."}},
)
def create(ask: WindowAsk, caller: Reserver, key: Key, request: Request, response: Response) -> WindowPart:
    """Hold a share of a pool on the wall clock's hours of chosen days.

    Each turn is on the books as a reservation of purpose `window` by the time that plans look at it. A window that is
    to be another one is removed first, and asked for with a new key.
    """
    asked = AskedWindow(
        name=ask.name,
        pool=caller.pool(ask.pool).name,
        tenant=caller.tenant(ask.tenant),
        request=ask.request.resources(),
        start=ask.start,
        end=ask.end,
        days=tuple(ask.days or ()),
        zone=ask.tz,
        count=ask.count,
        lead_s=ask.lead_s,
        borrow=ask.borrow,
        reclaim_s=ask.reclaim_s,
        priority=ask.priority,
        since=ask.since,
        until=ask.until,
    )
    made, is_new = windows.add(caller.ctx, asked, key, trusted=caller.token.is_admin)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = str(request.url_for("show_window", window_id=made.window_id).path)
    return _part(made)


@router.get("", summary="List windows")
def list_all(caller: Reserver, pool: Annotated[Label | None, Query()] = None) -> WindowList:
    """The tenant's own; an administrator's token sees everybody's."""
    pools = {p.name for p in caller.pools(pool)}
    found = caller.ctx.ports.windows.windows(tenant=caller.sees)
    return WindowList(windows=[_part(w) for w in found if w.pool in pools])


@router.get("/{window_id}", name="show_window", summary="Look at a window")
def show(window_id: Id, caller: Reserver) -> WindowPart:
    """As it was asked for."""
    return _part(_found(caller, window_id))


@router.delete("/{window_id}", summary="Remove a window")
def remove(window_id: Id, caller: Reserver) -> WindowPart:
    """Hold it no more. Turns that are on the books are given back as the controller next looks."""
    window = _found(caller, window_id)
    windows.remove(caller.ctx, window.pool, window.tenant, window.name)
    return _part(window)
