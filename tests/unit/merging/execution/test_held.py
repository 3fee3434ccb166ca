"""The values of small merges are decoded once, however often they are read."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.held import SMALL, held, held_bytes
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.store.memory import MemoryStore


def _values(count: int, elements: int = 1000, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"w{at}": rng.standard_normal(elements).astype(np.float32) for at in range(count)}


@pytest.fixture
def decoded(bench, monkeypatch):
    """Return the digests of what is decoded."""
    digests: list[str] = []
    decode = bench.store.decoder.decode
    monkeypatch.setattr(
        bench.store.decoder,
        "decode",
        lambda blobs, digest, *rest: digests.append(digest) or decode(blobs, digest, *rest),
    )
    return digests


def test_small_values_are_held_and_read_as_they_are(bench):
    parameters = [bench.parameter(value) for value in (*_values(3).values(), np.zeros(0, np.float32))]
    store = held(bench.store, [*parameters, parameters[0]])
    assert isinstance(store, MemoryStore)
    for parameter in parameters:
        assert bytes(store.read(parameter.digest, parameter.spec)) == bench.store.read(parameter.digest, parameter.spec)
    assert held_bytes([*parameters, parameters[0]]) == 12000
    assert held(store, parameters) is store


def test_values_that_the_store_holds_are_not_read_again(bench):
    parameters = [bench.parameter(value) for value in _values(3).values()]
    with bench.store.holding({parameter.digest: parameter.spec for parameter in parameters[:2]}):
        memory = held(bench.store, parameters[:2])
        assert isinstance(memory, MemoryStore)
        assert held(bench.store, parameters[1:2]) is memory
        assert held(bench.store, parameters) is not memory
    assert held(bench.store, parameters[:2]) is not memory


def test_large_values_are_not_held(bench):
    parameters = [bench.parameter(value) for value in _values(2, SMALL // 8 + 1).values()]
    assert held(bench.store, parameters) is bench.store
    assert held_bytes(parameters) == 0


def test_a_missing_value_is_left_to_those_that_need_it(bench):
    present, other = (bench.parameter(value) for value in _values(2).values())
    absent = type(other)(other.spec, type(other.digest)("0" * 64))
    assert held(bench.store, [present, absent]) is bench.store


@pytest.mark.parametrize("method", ["ties", "breadcrumbs"])
def test_a_merge_that_searches_thresholds_decodes_each_value_once(bench, decoded, method):
    versions = [bench.manifest(_values(5, seed=seed)) for seed in (1, 2, 3)]
    apply(plan(versions[0], versions[1:], Rules.only(method)), bench.store)
    read = {parameter.digest for version in versions for parameter in version.parameters.values()}
    assert sorted(digest for digest in decoded if digest in read) == sorted(read)
