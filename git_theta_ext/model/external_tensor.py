"""A tensor of a model whose values are in another file, which does not say so itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from git_theta_ext.model.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """Where a tensor is.

    Attributes:
        name: Its name in the model.
        spec: Its element type and shape.
        file: The file that holds it, relative to the directory of the file that says so.
        offset: Where it begins there.
    """

    name: str
    spec: TensorSpec
    file: str
    offset: int
