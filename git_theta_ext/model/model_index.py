"""The file of a model that says which other file holds each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.tensor_pieces import PiecedTensor


class ModelIndex(Protocol):
    """The content of such a file."""

    @property
    def weight_map(self) -> Mapping[str, str]:
        """Parameter to the name of the file that holds it, which is in the same directory."""
        ...

    @property
    def fixed(self) -> object:
        """What versions that are merged must have in common; None if parameters may move between files."""
        ...

    @property
    def tensors(self) -> Mapping[str, PiecedTensor]:
        """The tensors in several pieces, each of which is a parameter, by name."""
        ...

    @property
    def objects(self) -> Mapping[str, tuple[str, int, int]]:
        """File, offset and size in bytes of what is saved beside tensors and has a place of its own, by name."""
        ...

    def name_in_model(self, file: str, name: str) -> str:
        """Return the name of a parameter, given the name of a file and the one that the parameter has in it."""
        ...

    def moved(self, weight_map: Mapping[str, str], added: Mapping[str, int]) -> ModelIndex:
        """Return the index of other parameters, or of parameters in other files.

        Args:
            weight_map: Parameter to the name of the file that holds it.
            added: How much ``total_size`` and ``total_parameters`` grow.
        """
        ...

    def to_bytes(self) -> bytes:
        """Return the file."""
        ...
