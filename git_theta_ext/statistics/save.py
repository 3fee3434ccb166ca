"""Write the statistics of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.model_files import open_model_files
from git_theta_ext.errors import FormatError, StoreError, UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.statistics.sidecar import CHECKPOINT, FORMAT, check, sidecar_of
from git_theta_ext.util.files import replacing, reporting_os_errors
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


def save(checkpoint: Path, statistics: Mapping[str, torch.Tensor], samples: int) -> Path:
    """Write statistics beside their checkpoint, and replace existing ones.

    For a parameter with several names, only the names in the checkpoint are written.

    Args:
        checkpoint: The file whose values the statistics were collected with, or the directory of a model.
        statistics: The result of ``git_theta_ext.statistics.collect.collect``.
        samples: The number of examples.

    Returns:
        The path of the statistics.

    Raises:
        FormatError: The checkpoint cannot be split into tensors, or the statistics do not fit it.
        UsageError: The file is only a manifest, or a statistic is not finite.
        StoreError: The checkpoint cannot be read, or the file cannot be written.
        LibraryError: The library safetensors is not installed.
    """
    require("safetensors", "saving statistics")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    opened = open_model_files(checkpoint)
    path = Path(sidecar_of(str(opened.path)))
    parameters = opened.specs
    there = {id(tensor) for name, tensor in statistics.items() if name.partition("/")[2] in parameters}
    kept = {
        name: tensor
        for name, tensor in sorted(statistics.items())
        if name.partition("/")[2] in parameters or id(tensor) not in there
    }
    try:
        check({name: TensorSpec.of("F32", tensor.shape) for name, tensor in kept.items()}, parameters)
    except FormatError as error:
        raise FormatError(f"{checkpoint}: {error.message}", hint=error.hint) from error
    for name, tensor in kept.items():
        if not bool(tensor.isfinite().all()):
            raise UsageError(f"{path}: statistic {name!r} is not finite", hint="check the losses of the examples")
    facts = {"format": FORMAT, "samples": str(samples), CHECKPOINT: opened.values_digest()}
    try:
        with reporting_os_errors(path), replacing(path) as temporary:
            save_file(_apart(kept), temporary, facts)
            shutil.copymode(opened.paths[0], temporary)  # both have the same readers
    except SafetensorError as error:
        raise StoreError(f"cannot write {path}: {error}", hint="check the disk's space and permissions") from error
    return path


def _apart(statistics: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors as the format takes them: float32 on the CPU, and none that share memory."""
    import torch

    apart: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in statistics.items():
        value = tensor.detach().to("cpu", torch.float32).contiguous()
        apart[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return apart
