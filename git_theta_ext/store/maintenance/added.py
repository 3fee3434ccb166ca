"""The tensors that a version adds, as what recodes them asks for them: few objects for many tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from git_theta_ext.store.maintenance.cheapest import Candidate

if TYPE_CHECKING:
    from collections.abc import Container

    from git_theta_ext.model.tensor import Digest


class AddedTensors(Sequence[Candidate]):
    """The tensors that a version adds: candidates, of which one is made for each tensor that is asked for.

    As a group of ``itertools.groupby`` it can be used until the next version is asked for.
    """

    @property
    @abstractmethod
    def digests(self) -> Sequence[Digest]:
        """Their digests, each once."""

    @abstractmethod
    def among(self, digests: Container[Digest]) -> list[Candidate]:
        """Return the candidates of some of them."""

    @abstractmethod
    def parents_of(self, digests: Sequence[Digest]) -> list[list[Digest]] | None:
        """Return the possible parents of some of them, which changed together, the likeliest first.

        Args:
            digests: Digests of some of the tensors.

        Returns:
            For each parent the digests of tensors that have the same specs, in the same order; None if they did not
            always change together, or if parents have other specs.
        """
