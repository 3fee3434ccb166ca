"""Use models in Python, for example in a notebook: ``git_theta_ext.load`` and ``git_theta_ext.merge``."""

from __future__ import annotations

from git_theta_ext.api.merging import load, merge

__all__ = ["load", "merge"]
