"""Conformance suites for authors of plug-ins: subclass one in a pytest module and give it what it asks for."""

from git_theta_ext.testing.encodings import EncodingTests
from git_theta_ext.testing.formats import FormatTests
from git_theta_ext.testing.merges import MergeMethodTests
from git_theta_ext.testing.remotes import RemoteTests

__all__ = ["EncodingTests", "FormatTests", "MergeMethodTests", "RemoteTests"]
