"""The whole store in memory: for tests, for replay, and for what-if questions that must leave no trace."""

from preprov.contracts import Ports
from preprov.sim.access import MemoryEvents, MemoryTokens
from preprov.sim.adoptions import MemoryAdoptions
from preprov.sim.facts import MemoryAudit, MemoryForecasts, MemoryHistory, MemoryLeads, MemoryPlans, MemorySamples
from preprov.sim.intent import MemoryIntent, MemoryLeases, MemoryModels, MemoryVotes
from preprov.sim.learning import MemoryLearning
from preprov.sim.ledger import MemoryLedger
from preprov.sim.prices import MemoryPrices
from preprov.sim.promises import MemoryPromises
from preprov.sim.windows import MemoryWindows
from preprov.sim.workstore import MemoryWorkStore


def memory_ports(work: MemoryWorkStore | None = None, *, keep_plans: int | None = None) -> Ports:
    """Every port of the store, empty, in memory.

    Args:
        work: a work store to use, already holding a trace.
        keep_plans: keep only the newest plans; None = all.
    """
    work = work or MemoryWorkStore()
    return Ports(
        work=work,
        sources=work.mirror,
        forecasts=MemoryForecasts(),
        plans=MemoryPlans(keep_plans),
        audit=MemoryAudit(),
        ledger=MemoryLedger(),
        windows=MemoryWindows(),
        leads=MemoryLeads(),
        votes=MemoryVotes(),
        models=MemoryModels(),
        learning=MemoryLearning(),
        promises=MemoryPromises(),
        leases=MemoryLeases(),
        samples=MemorySamples(),
        intent=MemoryIntent(),
        history=MemoryHistory(),
        adoptions=MemoryAdoptions(),
        tokens=MemoryTokens(),
        events=MemoryEvents(),
        prices=MemoryPrices(),
    )
