"""The conformance suite of kinds of updates.

Subclass ``UpdateKindTests`` in a test module and give it three fixtures::

    class TestMine(UpdateKindTests):
        @pytest.fixture
        def kind(self):
            return KIND

        @pytest.fixture
        def parameters(self):
            return {"layer.weight": TensorSpec.of("F32", (3, 5))}

        @pytest.fixture
        def file(self):
            return UpdateFile("mine", {"layer.bonus": tensor})
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.interfaces import Base, Chunk, TensorSpec, UpdateTensor
from git_theta_ext.records import replace
from git_theta_ext.registry import find_encoding
from git_theta_ext.update.value import new_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import UpdateFile, UpdateKind

    Specs = Mapping[str, TensorSpec]


class UpdateKindTests:
    """Conformance suite; a subclass has the fixtures ``kind``, ``parameters`` and a ``file`` that fits them."""

    def test_only_parameters_of_the_checkpoint_are_updated(
        self, kind: UpdateKind, file: UpdateFile, parameters: Specs
    ) -> None:
        """The file updates at least one of them."""
        updates = kind.read(file, parameters)
        assert updates
        assert set(updates) <= set(parameters)

    def test_the_result_is_reproducible_and_comes_back_from_its_encoding(
        self, kind: UpdateKind, file: UpdateFile, parameters: Specs
    ) -> None:
        """The new value is stored by the encoding that the update names, given the old one."""
        for name, update in kind.read(file, parameters).items():
            spec, old = parameters[name], _old(parameters[name])
            value = new_value(update, spec, old, 1)
            assert value == new_value(update, spec, old, 2)
            encoding = find_encoding(update.encoding)
            factors = tuple(Base(factor, memoryview(data)) for factor, data in update.fit.tensors)
            chunk = Chunk(spec, 0, (Base(spec, old), *factors), update.fit.params)
            payload = b"".join(encoding.encode(chunk, memoryview(value)))
            out = bytearray(spec.nbytes)
            encoding.decode(chunk, memoryview(payload), memoryview(out))
            assert out == value, name

    def test_a_checkpoint_without_the_parameters_is_refused(self, kind: UpdateKind, file: UpdateFile) -> None:
        """An update of another model must not be applied silently."""
        with pytest.raises((FormatError, UsageError)):
            kind.read(file, {"another.parameter.of.another.model": TensorSpec.of("F32", (2, 2))})

    def test_parameters_of_another_shape_are_refused_or_fit_as_well(
        self, kind: UpdateKind, file: UpdateFile, parameters: Specs
    ) -> None:
        """They may belong to a model of another size."""
        larger = {
            name: TensorSpec(spec.dtype, tuple(size + 97 for size in spec.shape)) for name, spec in parameters.items()
        }
        try:
            updates = kind.read(file, larger)
        except (FormatError, UsageError):
            return
        for name, update in updates.items():
            new_value(update, larger[name], _old(larger[name]), 1)

    def test_damage_is_refused_in_words(self, kind: UpdateKind, file: UpdateFile, parameters: Specs) -> None:
        """A file that contradicts itself raises FormatError or UsageError, when it is read or when it is applied."""
        noise = random.Random(3)  # noqa: S311 - a test
        damaged = [replace(file, metadata={}, config=None)]
        for name, tensor in file.tensors.items():
            cut = TensorSpec(tensor.spec.dtype, tuple(size // 2 for size in tensor.spec.shape))
            others = {key: value for key, value in file.tensors.items() if key != name}
            damaged += [
                replace(file, tensors=others),
                replace(file, tensors={**others, name: UpdateTensor(cut, tensor.data[: cut.nbytes])}),
                replace(
                    file,
                    tensors={
                        **others,
                        name: UpdateTensor(tensor.spec, memoryview(noise.randbytes(tensor.spec.nbytes))),
                    },
                ),
            ]
        for broken in damaged:
            with suppress(FormatError, UsageError):
                for name, update in kind.read(broken, parameters).items():
                    value = new_value(update, parameters[name], _old(parameters[name]), 1)
                    assert len(value) == parameters[name].nbytes


def _old(spec: TensorSpec) -> memoryview:
    """Return bytes that are finite numbers of any element type."""
    return memoryview(bytes(position * 7 % 60 for position in range(spec.nbytes)))
