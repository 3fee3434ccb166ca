"""Write an adapter as PEFT does: a directory with a configuration and a file of safetensors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.conversion.safetensors_file import write
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Arrays:
    """Arrays as ``Tensors``."""

    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        return {name: TensorSpec.of("F32", array.shape) for name, array in self.arrays.items()}

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        for name in names:
            yield iter([memoryview(self.arrays[name].astype("<f4", copy=False).tobytes())])


def write_adapter(folder: Path, tensors: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> None:
    """Write an adapter into an existing directory.

    Args:
        folder: The directory.
        tensors: The adapter's tensors by name.
        config: The content of ``adapter_config.json``.

    Raises:
        OSError: It cannot be written.
    """
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    write(folder / "adapter_model.safetensors", _Arrays(tensors), {"format": "pt"})
