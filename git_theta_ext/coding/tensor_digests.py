"""Hash the small tensors of bundles: many at the same time, if the compiled module is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.coding.kernels import load_compiled
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest

_MOST = 1 << 14
"""Bytes of a tensor up to which hashing several at the same time takes less time: larger ones fill vectors alone."""
_FEWEST = 6
"""Tensors that take as long one by one as the compiled module, which always hashes 16."""

together = load_compiled("_blake3")
"""BLAKE3 of messages of one length; None also if the processor has no AVX-512."""


def tensor_digests(spec: TensorSpec, data: memoryview) -> bytes:
    """Return the digests of tensors of one spec, 32 bytes each.

    Args:
        spec: Element type and shape, which is not empty.
        data: The bytes of the tensors, one after another.
    """
    nbytes = spec.nbytes
    if together is not None and nbytes <= _MOST and data.nbytes >= _FEWEST * nbytes:
        digests: bytes = together.digests(spec.hashed, data, nbytes)
        return digests
    parts = (data[start : start + nbytes] for start in range(0, data.nbytes, nbytes))
    # The bytes of a small tensor are copied in less time than two updates take.
    return b"".join([blake3(b"".join((spec.hashed, part))).digest() for part in parts])


def wrong_member(bundle: Bundle, data: Buffer) -> Digest | None:
    """Return the digest of a tensor that the bytes of a bundle do not have; None if they have all of them."""
    view, end = memoryview(data).cast("B"), 0
    found: list[bytes] = []
    for count, shape in bundle.runs:
        spec = TensorSpec.of(bundle.dtype, shape)
        begin, end = end, end + count * spec.nbytes
        found.append(tensor_digests(spec, view[begin:end]))
    return bundle.first_other(b"".join(found))
