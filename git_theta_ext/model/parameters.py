"""The parameters of a manifest, as columns: a version of ten thousand of them is read without an object for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice, repeat
from operator import lt
from typing import TYPE_CHECKING, TypeVar, cast, overload

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import DIGEST_LENGTH, MAX_DIMENSIONS, Digest, TensorSpec
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import all_quoted, all_shared

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView

    Default = TypeVar("Default")

_TABS = 3  # after name, element type and shape; then comes the digest
_LONGEST_SHAPE = 20 * MAX_DIMENSIONS  # characters
_SHAPE = re.compile(r"\[(?:(?:0|[1-9][0-9]{0,17})(?:,(?:0|[1-9][0-9]{0,17}))*)?\]")


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

    def lines(self) -> list[str]:
        """Return the lines of a manifest that have the parameters."""
        by_id = dict(zip(map(id, self.specs), self.specs, strict=True))  # most are the same object
        texts = {at: f"{spec.dtype.name}\t[{','.join(map(str, spec.shape))}]" for at, spec in by_id.items()}
        rows = zip(all_quoted(self.names), self.specs, self.digests, strict=True)
        return [f"{name}\t{texts[id(spec)]}\t{digest}" for name, spec, digest in rows]

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


@lru_cache(1 << 12)
def parse_spec(kind: str, shape: str) -> TensorSpec:
    """Return the element type and the shape in a line of a manifest.

    Raises:
        FormatError: They are not valid.
    """
    if len(shape) > _LONGEST_SHAPE or not _SHAPE.fullmatch(shape):
        raise FormatError("expected a shape")
    return TensorSpec.of(kind, map(int, filter(None, shape[1:-1].split(","))))


def read_plain(lines: Sequence[str]) -> Parameters | None:
    """Return the parameters that lines of a manifest have if all are valid, and no name needs escapes in JSON.

    This takes little time, and less if a manifest with the same names and specs was just read. For other lines None is
    returned: they are read one by one, so that an error can name its line.
    """
    digests = [line[-DIGEST_LENGTH:] for line in lines]
    layout = _read_layout("\n".join([line[:-DIGEST_LENGTH] for line in lines]))
    if layout is None or not _are_digests("".join(digests), len(lines)):
        return None
    return Parameters(*layout, cast("list[Digest]", all_shared(digests)))


@lru_cache(1 << 3)  # the versions of a model in as many files
def _read_layout(text: str) -> tuple[Sequence[str], Sequence[TensorSpec]] | None:
    """Return names and specs in the lines of a manifest without their digests; None if one is not valid or plain."""
    lines = text.split("\n")
    if text.count("\t\n") != len(lines) - 1 or text[-1:] != "\t" or {*map(str.count, lines, repeat("\t"))} != {_TABS}:
        return None
    columns = "".join(lines).split("\t")
    written, kinds, shapes = (columns[at:-1:_TABS] for at in range(_TABS))
    if (names := _plain_names(written)) is None or not all(map(lt, names, islice(names, 1, None))):
        return None
    pairs = list(zip(kinds, shapes, strict=True))
    try:
        spec_of = {pair: parse_spec(*pair) for pair in set(pairs)}
    except FormatError:
        return None
    return all_shared(names), list(map(spec_of.__getitem__, pairs))


def _are_digests(text: str, count: int) -> bool:
    """Return whether a text consists of so many digests."""
    try:
        return len(text) == count * DIGEST_LENGTH and bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def _plain_names(written: Sequence[str]) -> list[str] | None:
    """Return names in quotes without these, if none needs escapes in JSON; otherwise None."""
    text = "\n".join(written)
    names = text[1:-1].split('"\n"')
    if text.count('"') != 2 * len(written) or len(names) != len(written) or not text[:1] == text[-1:] == '"':
        return None
    plain = "".join(names)
    return names if plain.isascii() and plain.isprintable() and "\\" not in plain else None
