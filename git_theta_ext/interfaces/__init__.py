"""The four seams at which the tool can be extended: formats, encodings, merge methods and remotes.

A plug-in is a module of ``plugins/`` (or of anybody's package) that an entry point of the matching group names.
``git_theta_ext.testing`` holds a conformance suite for each seam.
"""

from git_theta_ext.interfaces.encodings import Base, Chunk, Encoding, Fit, Predictor, Source
from git_theta_ext.interfaces.formats import Format, NotSplittable
from git_theta_ext.interfaces.merges import (
    MAX_BRANCHES,
    Elected,
    MergeContract,
    MergeMethod,
    Option,
    Pair,
    PairMethod,
    Piece,
    Scratch,
    Trim,
    pieces,
)
from git_theta_ext.interfaces.remotes import OpenRemote, Remote

__all__ = [
    "MAX_BRANCHES",
    "Base",
    "Chunk",
    "Elected",
    "Encoding",
    "Fit",
    "Format",
    "MergeContract",
    "MergeMethod",
    "NotSplittable",
    "OpenRemote",
    "Option",
    "Pair",
    "PairMethod",
    "Piece",
    "Predictor",
    "Remote",
    "Scratch",
    "Source",
    "Trim",
    "pieces",
]
