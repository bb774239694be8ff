"""Interruption, rebalance and state-change notices that EventBridge puts into an SQS queue."""

import json
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Notice
from preprov.model.time import aware
from preprov.pools.aws.clients import Json, batches
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.writes import Tools

_KINDS: Final = {
    "EC2 Spot Instance Interruption Warning": "interruption",
    "EC2 Instance Rebalance Recommendation": "rebalance",
    "EC2 Instance State-change Notification": "state",
}
_WARNING: Final = timedelta(minutes=2)
"""EC2 takes a spot instance two minutes after it has said so."""
_MOST: Final = 10
_ROUNDS: Final = 50


def read(tools: Tools, group: AwsGroup, ours: Callable[[], Container[str]]) -> Iterator[Notice]:
    """Notices about our nodes, which are only asked for if there are any notices.

    Those about others' nodes stay in the queue, what is no notice is taken out of it.

    Raises:
        PoolError: the queue cannot be read.
    """
    sqs = tools.clients.get("sqs", group.place)
    nodes: Container[str] | None = None
    for _ in range(_ROUNDS):
        with calling(group.where):
            got = sqs.receive_message(QueueUrl=group.queue_url, MaxNumberOfMessages=_MOST, WaitTimeSeconds=0)
        messages = got.get("Messages", ())
        if not messages:
            return
        idle = []
        nodes = ours() if nodes is None else nodes
        for m in messages:
            found = _notice(m, group.queue_url)
            if found is not None and found.node_id in nodes:
                yield found
            elif found is None:
                idle.append(f"{group.queue_url} {m['ReceiptHandle']}")
        _delete(tools, group, idle)


def settle(tools: Tools, group: AwsGroup, notices: Sequence[Notice]) -> None:
    """Take these out of the queue.

    Raises:
        PoolError: the queue cannot be written.
    """
    _delete(tools, group, [n.receipt for n in notices])


def _delete(tools: Tools, group: AwsGroup, receipts: Sequence[str]) -> None:
    sqs = tools.clients.get("sqs", group.place)
    for some in batches(receipts, _MOST):
        entries = [{"Id": str(i), "ReceiptHandle": r.split(" ", 1)[1]} for i, r in enumerate(some)]
        with calling(group.where):
            sqs.delete_message_batch(QueueUrl=group.queue_url, Entries=entries)


def _notice(message: Json, queue: str) -> Notice | None:
    """One message; None if it is not of these."""
    try:
        event = json.loads(message["Body"])
        kind = _KINDS[event["detail-type"]]
        at = aware(datetime.fromisoformat(event["time"]))
        detail = event["detail"]
        return Notice(
            node_id=str(detail["instance-id"]),
            kind=kind,
            at=at,
            deadline=at + _WARNING if kind == "interruption" else None,
            detail=str(detail.get("instance-action") or detail.get("state") or ""),
            receipt=f"{queue} {message['ReceiptHandle']}",
        )
    except (KeyError, TypeError, ValueError):
        return None
