"""Use models in Python, for example in a notebook."""

from __future__ import annotations

from git_theta_ext.api.diffs import Comparison, diff
from git_theta_ext.api.history import History, HistoryEntry, log
from git_theta_ext.api.merging import merge
from git_theta_ext.api.models import load
from git_theta_ext.api.models import open_model as open  # noqa: A004 - git_theta_ext.open, as in other libraries
from git_theta_ext.api.opened import Model, TensorSlice
from git_theta_ext.api.saving import save

__all__ = [
    "Comparison",
    "History",
    "HistoryEntry",
    "Model",
    "TensorSlice",
    "diff",
    "load",
    "log",
    "merge",
    "open",
    "save",
]
