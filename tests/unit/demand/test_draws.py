import numpy as np
import pytest

from preprov.demand.draws import key_of, mix, normals, strata, uniforms


def test_numbers_belong_to_the_name_not_to_its_place() -> None:
    alone = normals(key_of(["b"], 7), 50)
    among = normals(key_of(["a", "b", "c"], 7), 50)
    assert np.array_equal(alone[0], among[1])
    assert not np.array_equal(alone, normals(key_of(["b"], 8), 50))


def test_a_part_of_the_columns_is_the_same_as_all_of_them_cut() -> None:
    keys = key_of(["a", "b"], 0)
    assert np.array_equal(uniforms(keys, 200, slice(30, 47)), uniforms(keys, 200)[:, 30:47])


@pytest.mark.parametrize("n", [1, 2, 16, 100, 256, 1000])
def test_no_number_comes_twice_for_one_key(n: int) -> None:
    index, m = strata(key_of([f"k{i}" for i in range(50)], 1), n)
    assert index.max() < m
    assert all(len(set(row)) == n for row in index.tolist())


def test_few_samples_have_the_right_mean_and_spread() -> None:
    z = normals(key_of([f"k{i}" for i in range(2000)], 3), 32)
    assert z.mean(axis=1).std() < 0.25 / np.sqrt(32)  # a quarter of what independent numbers have
    assert z.std() == pytest.approx(1.0, abs=0.01)


def test_different_keys_are_as_good_as_independent() -> None:
    z = normals(key_of([f"k{i}" for i in range(1500)], 3), 256)
    between = np.corrcoef(z)[np.triu_indices(len(z), 1)]
    assert between.mean() == pytest.approx(0.0, abs=1e-3)
    assert between.std() == pytest.approx(1 / 16, rel=0.05)
    assert np.abs(between).max() < 0.5


def test_parts_of_a_thing_have_keys_of_their_own() -> None:
    keys = key_of(["a"], 0)
    assert len({int(mix(keys, np.uint64(i))[0]) for i in range(100)}) == 100
