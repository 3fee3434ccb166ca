"""Calls merge methods, ours and those of other implementations, beside each other."""

import warnings

import pytest
import torch

from git_theta_ext.interfaces import Piece
from git_theta_ext.registry import find_merge


def module(name):
    """Import another implementation, or skip the test where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def mergekit(method, base, branches, **parameters):
    """Merge by mergekit."""
    api = module("mergekit.merge_methods.api")
    tensors, index = ([*branches], None) if base is None else ([base, *branches], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return api.merge_tensors(tensors, method, base_index=index, parameters=parameters, dtype=torch.float32)


def ours(name, base, branches, weights=None, **asked):
    """Merge by a method that looks at no thresholds and draws no numbers."""
    method = find_merge(name)
    options = {option: value.default for option, value in method.contract.options.items()} | asked
    given = base if method.contract.needs_base else None
    return method(Piece("w", given, tuple(branches), options, weights or (1.0,) * len(branches)))


def near(found, expected, tolerance=2e-6):
    """Assert that values are the same but for rounding."""
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)
