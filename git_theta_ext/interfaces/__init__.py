"""Everything that a plug-in imports besides ``git_theta_ext.errors``: what it implements, what it is given, helpers.

docs/plugins.md shows a plug-in of each kind. ``git_theta_ext.testing`` has a conformance suite for each.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from git_theta_ext.coding.dense import decode_dense, encode_dense
    from git_theta_ext.coding.factors import add_product, improve_rows, narrowest
    from git_theta_ext.coding.planes import payload_size
    from git_theta_ext.coding.residual import decode_residual, encode_residual
    from git_theta_ext.interfaces.arrays import Array, array_namespace, astype
    from git_theta_ext.interfaces.containers import Container, Target
    from git_theta_ext.interfaces.encodings import Base, Chunk, Encoding, Fit, Predictor, Sampled, TensorSource
    from git_theta_ext.interfaces.external_data import ExternalDataFormat
    from git_theta_ext.interfaces.formats import Format, NotedFields, NotSplittable, PartialFormat, TiedFormat
    from git_theta_ext.interfaces.locks import LockingRemote, Locks
    from git_theta_ext.interfaces.merges import (
        MAX_BRANCHES,
        Elected,
        Fusion,
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
    from git_theta_ext.interfaces.model_indexes import IndexedFormat
    from git_theta_ext.interfaces.parameter_names import ParameterNames
    from git_theta_ext.interfaces.prediction import PredictingEncoding
    from git_theta_ext.interfaces.remotes import (
        GitCommands,
        MarkingRemote,
        ObjectServer,
        RangeRemote,
        ReadOnlyRemote,
        Remote,
        RemoteContext,
        RemoteType,
        WantedObject,
    )
    from git_theta_ext.interfaces.statistics import Observed, StatisticsKind
    from git_theta_ext.interfaces.updates import (
        ParameterUpdate,
        UpdateFile,
        UpdateKind,
        UpdateTensor,
        check_factor,
        check_float_parameter,
        predicted_update,
        replacing_update,
    )
    from git_theta_ext.model.bounded_json import read_json
    from git_theta_ext.model.content import Content, Part, RangeContent
    from git_theta_ext.model.dtypes import Dtype, dtype, opaque
    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.fields import ChecksumField, Extent, Field, RangeChecksumField, moved
    from git_theta_ext.model.floats import is_real, round_once, to_float64
    from git_theta_ext.model.layout import Checksum, Layout, Literal, RangeChecksum, Segment, Slice
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.packed_signs import SIGNS_PER_FRAME, pack_signs, sign_frames, unpack_signs
    from git_theta_ext.model.remote_keys import check_key, check_prefix, is_key
    from git_theta_ext.model.tensor import MAX_BYTES, MAX_DIMENSIONS, TensorSpec
    from git_theta_ext.model.tensor_pieces import PiecedTensor, TensorPiece
    from git_theta_ext.protocol.lfs.locks import FileLock, HeldLocks
    from git_theta_ext.util.files import sha256_of
    from git_theta_ext.util.libraries import is_installed, require
    from git_theta_ext.util.system import (
        NOFOLLOW,
        is_own,
        lock,
        open_file,
        pread,
        reflink,
        sync_directory,
        widen_pipe,
        write_pieces,
    )
    from git_theta_ext.util.text import redacted
    from git_theta_ext.util.threads import ordered_map

__all__ = [
    "MAX_BRANCHES",
    "MAX_BYTES",
    "MAX_DIMENSIONS",
    "NOFOLLOW",
    "SIGNS_PER_FRAME",
    "Array",
    "Base",
    "Checksum",
    "ChecksumField",
    "Chunk",
    "Container",
    "Content",
    "Dtype",
    "Elected",
    "Encoding",
    "Extent",
    "ExternalDataFormat",
    "ExternalTensor",
    "Field",
    "FileLock",
    "Fit",
    "Format",
    "Fusion",
    "GitCommands",
    "HeldLocks",
    "IndexedFormat",
    "Layout",
    "Literal",
    "LockingRemote",
    "Locks",
    "MarkingRemote",
    "MergeContract",
    "MergeMethod",
    "ModelIndex",
    "NotSplittable",
    "NotedFields",
    "ObjectServer",
    "Observed",
    "Option",
    "Pair",
    "PairMethod",
    "ParameterNames",
    "ParameterUpdate",
    "Part",
    "PartialFormat",
    "Piece",
    "PiecedTensor",
    "PredictingEncoding",
    "Predictor",
    "RangeChecksum",
    "RangeChecksumField",
    "RangeContent",
    "RangeRemote",
    "ReadOnlyRemote",
    "Remote",
    "RemoteContext",
    "RemoteType",
    "Sampled",
    "Scratch",
    "Segment",
    "Slice",
    "StatisticsKind",
    "Target",
    "TensorPiece",
    "TensorSource",
    "TensorSpec",
    "TiedFormat",
    "Trim",
    "UpdateFile",
    "UpdateKind",
    "UpdateTensor",
    "WantedObject",
    "add_product",
    "array_namespace",
    "astype",
    "check_factor",
    "check_float_parameter",
    "check_key",
    "check_prefix",
    "decode_dense",
    "decode_residual",
    "dtype",
    "encode_dense",
    "encode_residual",
    "improve_rows",
    "is_installed",
    "is_key",
    "is_own",
    "is_real",
    "lock",
    "moved",
    "narrowest",
    "opaque",
    "open_file",
    "ordered_map",
    "pack_signs",
    "payload_size",
    "pieces",
    "pread",
    "predicted_update",
    "read_json",
    "redacted",
    "reflink",
    "replacing_update",
    "require",
    "round_once",
    "sha256_of",
    "sign_frames",
    "sync_directory",
    "to_float64",
    "unpack_signs",
    "widen_pipe",
    "write_pieces",
]

_NAMES = {
    "coding.dense": ("decode_dense", "encode_dense"),
    "coding.factors": ("add_product", "improve_rows", "narrowest"),
    "coding.planes": ("payload_size",),
    "coding.residual": ("decode_residual", "encode_residual"),
    "interfaces.arrays": ("Array", "array_namespace", "astype"),
    "interfaces.containers": ("Container", "Target"),
    "interfaces.encodings": ("Base", "Chunk", "Encoding", "Fit", "Predictor", "Sampled", "TensorSource"),
    "interfaces.external_data": ("ExternalDataFormat",),
    "interfaces.formats": ("Format", "NotedFields", "NotSplittable", "PartialFormat", "TiedFormat"),
    "interfaces.locks": ("LockingRemote", "Locks"),
    "interfaces.merges": (
        "MAX_BRANCHES",
        "Elected",
        "Fusion",
        "MergeContract",
        "MergeMethod",
        "Option",
        "Pair",
        "PairMethod",
        "Piece",
        "Scratch",
        "Trim",
        "pieces",
    ),
    "interfaces.model_indexes": ("IndexedFormat",),
    "interfaces.parameter_names": ("ParameterNames",),
    "interfaces.prediction": ("PredictingEncoding",),
    "interfaces.remotes": (
        "GitCommands",
        "MarkingRemote",
        "ObjectServer",
        "RangeRemote",
        "ReadOnlyRemote",
        "Remote",
        "RemoteContext",
        "RemoteType",
        "WantedObject",
    ),
    "interfaces.statistics": ("Observed", "StatisticsKind"),
    "interfaces.updates": (
        "ParameterUpdate",
        "UpdateFile",
        "UpdateKind",
        "UpdateTensor",
        "check_factor",
        "check_float_parameter",
        "predicted_update",
        "replacing_update",
    ),
    "model.bounded_json": ("read_json",),
    "model.content": ("Content", "Part", "RangeContent"),
    "model.dtypes": ("Dtype", "dtype", "opaque"),
    "model.external_tensor": ("ExternalTensor",),
    "model.fields": ("ChecksumField", "Extent", "Field", "RangeChecksumField", "moved"),
    "model.floats": ("is_real", "round_once", "to_float64"),
    "model.layout": ("Checksum", "Layout", "Literal", "RangeChecksum", "Segment", "Slice"),
    "model.model_index": ("ModelIndex",),
    "model.packed_signs": ("SIGNS_PER_FRAME", "pack_signs", "sign_frames", "unpack_signs"),
    "model.remote_keys": ("check_key", "check_prefix", "is_key"),
    "model.tensor": ("MAX_BYTES", "MAX_DIMENSIONS", "TensorSpec"),
    "model.tensor_pieces": ("PiecedTensor", "TensorPiece"),
    "protocol.lfs.locks": ("FileLock", "HeldLocks"),
    "util.files": ("sha256_of",),
    "util.libraries": ("is_installed", "require"),
    "util.system": (
        "NOFOLLOW",
        "is_own",
        "lock",
        "open_file",
        "pread",
        "reflink",
        "sync_directory",
        "widen_pipe",
        "write_pieces",
    ),
    "util.text": ("redacted",),
    "util.threads": ("ordered_map",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
"""Where a name is from. It is imported when it is first used, and nothing else with it."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module = import_module(f"git_theta_ext.{_MODULES[name]}")
        return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
