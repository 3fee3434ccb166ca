"""Calls merge methods, ours and those of other implementations, beside each other."""

import warnings
from importlib.util import find_spec

import pytest
import torch

from git_theta_ext.interfaces import Elected, Piece, Trim
from git_theta_ext.registry import find_merge
from git_theta_plugins.merges import _random


def needs(name):
    """Skip a test module as a whole if another implementation is not installed; it is imported by the tests alone."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)


def module(name):
    """Import another implementation, or skip the test where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def mergekit(method, base, branches, dtype=torch.float32, **parameters):
    """Merge by mergekit, which computes in the type that it is given."""
    api = module("mergekit.merge_methods.api")
    tensors, index = ([*branches], None) if base is None else ([base, *branches], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return api.merge_tensors(tensors, method, base_index=index, parameters=parameters, dtype=dtype)


def ours(name, base, branches, weights=None, trims=(), sign=1, keys=(), sidecars=None, **asked):
    """Merge by a method of ours."""
    method = find_merge(name)
    options = {option: value.default for option, value in method.contract.options.items()} | asked
    given = base if method.contract.needs_base else None
    weights = weights or (1.0,) * len(branches)
    found = method(Piece("w", given, tuple(branches), options, weights, trims, sign, keys, sidecars=sidecars or {}))
    return found.value if isinstance(found, Elected) else found


def kept(base, branches, count):
    """Return thresholds that keep the largest changes of each branch, of equal ones the first."""
    trims = []
    for branch in branches:
        bits = (branch - base).abs().reshape(-1).view(torch.int32).sort(descending=True).values
        least = int(bits[count - 1]) if count and len(bits) else 0x7FFFFFFF
        trims.append(Trim(least, count - int((bits > least).sum())))
    return tuple(trims)


def drawing(monkeypatch, keys, shares):
    """Let another implementation draw what we draw from some keys; with ``shares`` divided by the probability."""
    left = iter(keys)

    def bernoulli(probabilities):
        drawn = (_random.uniform(next(left), 0, probabilities) < probabilities).float()
        return drawn / probabilities if shares else drawn

    monkeypatch.setattr(torch, "bernoulli", bernoulli)


def near(found, expected, tolerance=2e-6):
    """Assert that values are the same but for rounding."""
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)
