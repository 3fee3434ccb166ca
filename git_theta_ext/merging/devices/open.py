"""Open the devices that ``theta.merge.device`` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, LibraryError
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import CPU, CUDA, Devices
from git_theta_ext.merging.devices.methods import have_matrices
from git_theta_ext.util.libraries import is_installed, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.merging.devices.cuda import Cuda

AUTO = "auto"
_DRIVERS = ("nvidiactl", "dxg", "kfd", "nvhost-ctrl", "nvmap")
"""Torch can only find a CUDA device if /dev has one of these (of NVIDIA, Windows, AMD, and two of Tegra)."""


def device_names(setting: str, contracts: Sequence[MergeContract]) -> tuple[str, ...]:
    """Return the names of the devices that ``theta.merge.device`` names.

    Args:
        setting: ``auto`` (all CUDA devices if a method multiplies or decomposes matrices, else the CPU, which the other
            methods always use), ``cpu``, ``cuda`` or ``cuda:N``.
        contracts: Those of the methods that merge.

    Raises:
        ConfigError: The setting has another value, or there is no such device.
        LibraryError: Torch cannot be imported, and CUDA devices are asked for.
    """
    kind, _, number = setting.partition(":")
    if setting not in (AUTO, CPU, CUDA) and (kind != CUDA or not number.isdecimal()):
        raise ConfigError(f"theta.merge.device is {setting!r}", hint="git config theta.merge.device auto")
    if setting == CPU or (setting == AUTO and not _may_have_cuda(contracts)):
        return (CPU,)
    try:
        require("torch", f"theta.merge.device {setting!r}")
    except LibraryError:
        if setting == AUTO:  # a build for another driver may not be importable
            return (CPU,)
        raise
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == AUTO and not count:
        return (CPU,)
    if int(number or 0) >= count:
        raise ConfigError(
            f"theta.merge.device is {setting!r}, but there is no such device", hint="git config theta.merge.device cpu"
        )
    return (f"{CUDA}:{int(number)}",) if number else tuple(f"{CUDA}:{index}" for index in range(count))


def open_devices(setting: str, contracts: Sequence[MergeContract]) -> Devices:
    """Return the devices that ``theta.merge.device`` names.

    With ``auto``, devices that cannot be used are left out, and the CPU is a spare device.

    Args:
        setting: See ``device_names``.
        contracts: Those of the methods that merge.

    Raises:
        ConfigError: The setting has another value, there is no such device, or it cannot be used.
        LibraryError: Torch cannot be imported, and CUDA devices are asked for.
    """
    names = device_names(setting, contracts)
    if names == (CPU,):
        return Devices((Cpu(),), Cpu() if setting == AUTO else None)
    opened = [_opened(name) for name in names]
    used = tuple(device for device in opened if not isinstance(device, str))
    unusable = tuple(reason for reason in opened if isinstance(reason, str))
    if setting != AUTO:
        if unusable:
            raise ConfigError(unusable[0], hint="git config theta.merge.device cpu")
        return Devices(used)
    if not used:
        return Devices((Cpu(),), Cpu(), notes=tuple(f"{reason}: merging on the CPU" for reason in unusable))
    return Devices(used, Cpu(), matrices_only=True, notes=unusable)


def _may_have_cuda(contracts: Sequence[MergeContract]) -> bool:
    """Return whether CUDA devices would be used and may be here; without importing torch, which takes a second."""
    return have_matrices(contracts) and any(Path("/dev", name).exists() for name in _DRIVERS) and is_installed("torch")


def _opened(name: str) -> Cuda | str:
    """Return a CUDA device that was tried out, or why it cannot be used."""
    import torch

    from git_theta_ext.merging.devices.cuda import Cuda, first_line

    try:
        device = Cuda(name)
        device.try_out()
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        return f"{name} cannot be used ({first_line(error)})"
    return device
