"""Lead times that Azure's machines tell of themselves, through the SDK over HTTP."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from preprov.contracts import LaunchRequest, Recollection
from preprov.model.errors import PoolError
from preprov.model.offerings import Preload, Standby
from tests.azureworld import SIZE, T0, AzureWorld, azure_world

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> Iterator[AzureWorld]:
    with azure_world() as made:
        yield made


def grow(world: AzureWorld, by: int) -> None:
    """As whoever has the scale set does it before preprov comes."""
    settings = world.provider._lender(world.pool, "vms").settings()
    sets = world.provider._tools.clients.compute(world.provider._lender(world.pool, "vms").options.place)
    sku = settings["sku"]
    change = {"sku": {**sku, "capacity": int(sku["capacity"]) + by}}
    sets.virtual_machine_scale_sets.begin_update(world.fake.resource_group, "nodes", change, polling=False)
    world.clock.sleep(60)


def recalled(world: AzureWorld, ago: timedelta = timedelta(days=42)) -> Recollection:
    return world.provider.recall_leads(world.pool, "vms", T0 - ago)


def test_machines_that_were_there_before_tell_how_long_they_took(world: AzureWorld) -> None:
    grow(world, 2)
    found = recalled(world)
    assert [(w.node_id, w.seconds, w.at) for w in found.warmed] == [
        (n, 25.0, T0 + timedelta(seconds=25)) for n in sorted(world.vmss.members)
    ]
    assert {(w.instance_type, w.came_from, w.whole, w.failed, w.lacked) for w in found.warmed} == {
        (SIZE, Standby.COLD, True, False, False)
    }
    assert found.left_out == ()
    assert "provisioning" in found.means
    assert recalled(world) == found
    assert recalled(world, timedelta(minutes=-1)).warmed == ()


def test_a_machine_that_was_changed_or_started_tells_nothing(world: AzureWorld) -> None:
    grow(world, 3)
    tagged, started, kept = sorted(world.vmss.members)
    lender = world.provider._lender(world.pool, "vms")
    world.clock.sleep(3600)
    lender.note([tagged], {"owner": "us"})
    vms = world.provider._tools.clients.compute(lender.options.place).virtual_machines
    vms.begin_deallocate(world.fake.resource_group, started).result()
    vms.begin_start(world.fake.resource_group, started).result()
    world.clock.sleep(60)
    found = recalled(world)
    assert [w.node_id for w in found.warmed] == [kept]
    assert found.left_out == (("changed since it was made", 2),)


def test_what_preprov_made_and_what_is_not_over_is_counted(world: AzureWorld) -> None:
    world.provider.launch(
        LaunchRequest(world.pool, "vms", world.pool.groups[0].offerings[0], 1, "t1", Preload(), {"purpose": "test"})
    )
    world.clock.sleep(60)
    grow(world, 1)
    strange = sorted(world.vmss.members)[-1]
    found = recalled(world)
    assert [w.node_id for w in found.warmed] == [strange]
    assert found.left_out == (("made by preprov, which has timed it itself", 1),)
    world.provider._lender(world.pool, "vms").delete([strange])
    assert dict(recalled(world).left_out)["not over, or ending"] == 1


def test_a_lack_of_machines_is_one(world: AzureWorld) -> None:
    world.fake.faults.short.add(SIZE)
    grow(world, 1)
    (lack,) = recalled(world).warmed
    assert (lack.lacked, lack.failed, lack.instance_type) == (True, False, SIZE)


def test_a_refusal_is_a_pool_error(world: AzureWorld) -> None:
    world.fake.faults.denied = {"Microsoft.Compute/virtualMachines/read"}
    with pytest.raises(PoolError):
        recalled(world)
