"""What every store must do, whatever it is made of: one suite, run against each implementation of the ports.

Subclass `StoreContract` and give it a fixture `ports` that returns a fresh, empty store:

    class TestMine(StoreContract):
        @pytest.fixture
        def ports(self) -> Ports:
            return my_ports()
"""

from preprov.testing.access_contract import AccessContract
from preprov.testing.adoption_contract import AdoptionContract
from preprov.testing.decision_contract import DecisionContract
from preprov.testing.gang_contract import GangContract
from preprov.testing.ingest_contract import IngestContract
from preprov.testing.intent_contract import IntentContract
from preprov.testing.learning_contract import LearningContract
from preprov.testing.ledger_contract import LedgerContract
from preprov.testing.livework_contract import LiveWorkContract
from preprov.testing.price_contract import PriceContract
from preprov.testing.promise_contract import PromiseContract
from preprov.testing.sync_contract import SyncContract


class StoreContract(
    IngestContract,
    LiveWorkContract,
    LedgerContract,
    GangContract,
    AccessContract,
    DecisionContract,
    LearningContract,
    IntentContract,
    PromiseContract,
    SyncContract,
    PriceContract,
    AdoptionContract,
):
    """All of it."""
