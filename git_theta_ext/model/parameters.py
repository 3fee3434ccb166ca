"""The parameters of a manifest, as columns: a version of ten thousand of them is read without an object for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, overload

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView

    from git_theta_ext.model.tensor import Digest, TensorSpec

    Default = TypeVar("Default")


@dataclass(frozen=True, slots=True)
class Parameter:
    """The entry of a parameter in a manifest, without its name."""

    spec: TensorSpec
    digest: Digest

    def __hash__(self) -> int:
        """Return a hash that takes no time: that of the digest, which depends on the spec, too."""
        return hash(self.digest)


class Parameters(Mapping[str, Parameter]):
    """Parameters by name. They are not modified, and the objects for them are made when the first one is asked for.

    Args:
        names: Their names, in order, each once.
        specs: Their element types and shapes.
        digests: Their digests.

    Attributes:
        names: As above.
        specs: As above.
        digests: As above.
    """

    __slots__ = ("_by_name", "digests", "names", "specs")

    def __init__(self, names: Sequence[str], specs: Sequence[TensorSpec], digests: Sequence[Digest]) -> None:
        self.names = names
        self.specs = specs
        self.digests = digests
        self._by_name: dict[str, Parameter] | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter]) -> Parameters:
        """Return parameters in the order of their names."""
        if isinstance(parameters, cls):
            return parameters
        ordered = {name: parameters[name] for name in sorted(parameters)}
        values = ordered.values()
        made = cls([*ordered], [value.spec for value in values], [value.digest for value in values])
        made._by_name = ordered
        return made

    @property
    def by_name(self) -> dict[str, Parameter]:
        """The parameters as a dictionary, which is not to be modified."""
        if self._by_name is None:
            self._by_name = dict(zip(self.names, map(Parameter, self.specs, self.digests), strict=True))
        return self._by_name

    def __getitem__(self, name: str) -> Parameter:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Parameters):
            mine, others = (self.digests, self.names, self.specs), (other.digests, other.names, other.specs)
            return all(list(one) == list(another) for one, another in zip(mine, others, strict=True))
        return self.by_name == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.by_name)

    @overload
    def get(self, name: str, /) -> Parameter | None: ...

    @overload
    def get(self, name: str, /, default: Default) -> Parameter | Default: ...

    def get(self, name: str, /, default: object = None) -> object:
        """Return the parameter of a name, or a default."""
        return self.by_name.get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self.by_name.keys()

    def values(self) -> ValuesView[Parameter]:
        """Return the parameters."""
        return self.by_name.values()

    def items(self) -> ItemsView[str, Parameter]:
        """Return each name with its parameter."""
        return self.by_name.items()
