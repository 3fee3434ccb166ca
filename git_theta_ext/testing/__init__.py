"""Conformance suites for authors of plug-ins: subclass one in a pytest module and give it the fixtures it asks for."""

from __future__ import annotations

from git_theta_ext.testing.containers import ContainerTests
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_ext.testing.formats import FormatTests
from git_theta_ext.testing.locks import LocksTests
from git_theta_ext.testing.merges import MergeMethodTests
from git_theta_ext.testing.pairs import PairMethodTests
from git_theta_ext.testing.remotes import RemoteTests
from git_theta_ext.testing.statistics import StatisticsTests
from git_theta_ext.testing.updates import UpdateKindTests

__all__ = [
    "ContainerTests",
    "EncodingTests",
    "FormatTests",
    "LocksTests",
    "MergeMethodTests",
    "PairMethodTests",
    "RemoteTests",
    "StatisticsTests",
    "UpdateKindTests",
]
