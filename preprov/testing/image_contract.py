"""The part of the suite about what only some providers have: images made from a bench, and what a raise would meet."""

from contextlib import suppress
from functools import partial

import pytest

from preprov.contracts import BakesImages, Image, LaunchRequest, Preflights
from preprov.model.errors import ConflictError, NotFoundError, QuotaExceededError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.testing.pool_world import PoolSuite, PoolWorld

_DIGEST = "0123456789abcdef"
_OTHER = "fedcba9876543210"


class ImageContract(PoolSuite):
    """Tests of it. A provider that bakes images has a world with the method `baking` of `PoolWorld`."""

    # ------------------------------------------------------------------ images

    def test_a_bench_is_one_found_by_its_token_and_no_node_of_the_pool(self, world: PoolWorld) -> None:
        """Sent again it is the same; another is refused while there is one; ended by name, and that twice."""
        provider, pool = self._baker(world)
        ids = provider.open_bench(self._bench(pool, world, "one"))
        assert len(ids) == 1
        assert provider.open_bench(self._bench(pool, world, "one")) == ids
        world.until(lambda: self._benches(provider, pool) == set(ids), "the bench to be listed")
        assert self.seen(world, pool=pool) == {}
        with pytest.raises(QuotaExceededError):
            provider.open_bench(self._bench(pool, world, "two"))
        for _ in range(2):
            provider.close_benches(pool, pool.groups[0].name, [*ids, "nobody-1"])
        world.until(lambda: self._benches(provider, pool) == set(), "the bench to be gone")

    def test_an_image_is_made_once_of_a_verified_bench_rolled_out_and_never_deleted_in_use(
        self, world: PoolWorld
    ) -> None:
        """There is one per digest; what new nodes boot from is in use; what is not can be deleted, and that twice."""
        provider, pool = self._baker(world)
        group = pool.groups[0].name
        with pytest.raises(NotFoundError):
            provider.make_image(pool, group, "nobody-1", _DIGEST)
        first = self._made(world, provider, pool, _DIGEST)
        assert provider.roll_out(pool, group, first.image_id), "a line per thing changed"
        assert provider.roll_out(pool, group, first.image_id) == ()
        with pytest.raises(NotFoundError):
            provider.roll_out(pool, group, "nothing-1")
        (used,) = self._images(provider, pool)
        assert used.used_by
        with pytest.raises(ConflictError):
            provider.delete_image(pool, group, used.image_id)
        second = self._made(world, provider, pool, _OTHER)
        assert [i.digest for i in self._images(provider, pool)] == [_OTHER, _DIGEST], "the newest first"
        for _ in range(2):
            provider.delete_image(pool, group, second.image_id)
        assert [i.image_id for i in self._images(provider, pool)] == [used.image_id]

    def _baker(self, world: PoolWorld) -> tuple[BakesImages, Pool]:
        provider: object = world.provider
        if not isinstance(provider, BakesImages):
            pytest.skip("this provider bakes no images")
        pool = world.baking()
        if pool is None:
            pytest.skip("no image can be baked in these surroundings")
        return provider, pool

    def _bench(self, pool: Pool, world: PoolWorld, token: str) -> LaunchRequest:
        group = pool.groups[0]
        return LaunchRequest(pool, group.name, group.offerings[0], 1, token, world.preload)

    def _benches(self, provider: BakesImages, pool: Pool) -> set[str]:
        return {n.node_id for n in provider.benches(pool, pool.groups[0].name)}

    def _images(self, provider: BakesImages, pool: Pool) -> tuple[Image, ...]:
        return provider.images(pool, pool.groups[0].name)

    def _made(self, world: PoolWorld, provider: BakesImages, pool: Pool, digest: str) -> Image:
        """The image of a bench that was verified, once it can be booted from; its bench is ended."""
        group = pool.groups[0].name
        (bench,) = provider.open_bench(self._bench(pool, world, f"bake-{digest}"))
        world.until(partial(self._verified, world, provider, pool, bench), "the bench to be verified")
        world.until(partial(self._asked, provider, pool, bench, digest), "the image to be begun")
        provider.make_image(pool, group, bench, digest)
        world.until(partial(self._ready, provider, pool, digest), "the image to be ready")
        provider.close_benches(pool, group, [bench])
        world.until(lambda: self._benches(provider, pool) == set(), "the bench to be gone")
        (image,) = [i for i in self._images(provider, pool) if i.digest == digest]
        return image

    def _verified(self, world: PoolWorld, provider: BakesImages, pool: Pool, bench: str) -> bool:
        found: list[Node] = [n for n in provider.benches(pool, pool.groups[0].name) if n.node_id == bench]
        return bool(found) and found[0].ready_at is not None and world.preload.keys <= found[0].preloaded

    def _asked(self, provider: BakesImages, pool: Pool, bench: str, digest: str) -> bool:
        with suppress(ConflictError):  # it is still on its way to sleep
            provider.make_image(pool, pool.groups[0].name, bench, digest)
        return any(i.digest == digest for i in self._images(provider, pool))

    def _ready(self, provider: BakesImages, pool: Pool, digest: str) -> bool:
        found = [i.state for i in self._images(provider, pool) if i.digest == digest]
        assert found != ["failed"]
        return found == ["ready"]

    # ------------------------------------------------------------------ preflight

    def test_what_a_raise_would_meet_is_told_without_writing(self, world: PoolWorld) -> None:
        """Each limit says what it is and how many nodes it leaves; a disk has a size, or none that is known."""
        provider: object = world.provider
        if not isinstance(provider, Preflights):
            pytest.skip("this provider tells of no limits")
        group = world.pool.groups[0]
        found = provider.headroom(world.pool, group.name, group.offerings[0])
        assert all(room.what for room in found)
        assert provider.headroom(world.pool, group.name, group.offerings[0]) == found
        assert len({room.what for room in found}) == len(found), "a limit is told twice"
        disk = provider.disk_gib(world.pool, group.name)
        assert disk is None or disk > 0
        assert self.seen(world) == {}
