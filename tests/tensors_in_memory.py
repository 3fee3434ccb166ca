"""Tensors in memory, as conversions read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Values = Mapping[str, tuple[TensorSpec, bytes]]


@dataclass(frozen=True)
class InMemory:
    """Tensors in chunks of a few bytes."""

    values: Values

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        return {name: spec for name, (spec, _) in self.values.items()}

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        for name in names:
            data = self.values[name][1]
            yield (memoryview(data)[at : at + 7] for at in range(0, len(data), 7))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


def tensors_of(
    kinds: Sequence[str], names: st.SearchStrategy[str] = NAMES
) -> st.SearchStrategy[dict[str, tuple[TensorSpec, bytes]]]:
    """Draw tensors with any bits, of which a boolean has one."""

    def value(spec: TensorSpec) -> st.SearchStrategy[tuple[TensorSpec, bytes]]:
        elements = st.sampled_from(b"\0\1") if spec.dtype.name == "BOOL" else st.integers(0, 255)
        data = st.lists(elements, min_size=spec.nbytes, max_size=spec.nbytes).map(bytes)
        return data.map(lambda data: (spec, data))

    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    specs = st.builds(TensorSpec.of, st.sampled_from(kinds), shapes)
    return st.dictionaries(names.filter(lambda name: not name.endswith(".npy")), specs.flatmap(value), max_size=5)
