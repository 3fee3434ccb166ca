"""Open the devices that ``theta.merge.device`` names."""

from __future__ import annotations

from pathlib import Path

from git_theta_ext.errors import ConfigError
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import CPU, CUDA, Devices
from git_theta_ext.util.libraries import is_installed, require

_DRIVERS = ("nvidiactl", "dxg", "kfd", "nvhost-ctrl", "nvmap")
"""Torch can only find a CUDA device if /dev has one of these (of NVIDIA, Windows, AMD, and two of Tegra)."""


def device_names(setting: str) -> tuple[str, ...]:
    """Return the names of the devices that ``theta.merge.device`` names.

    Args:
        setting: ``auto`` (all CUDA devices, or the CPU if there are none), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: The setting has another value, or there is no such device.
        LibraryError: Torch is not installed, and CUDA devices are asked for.
    """
    kind, _, number = setting.partition(":")
    if setting not in ("auto", CPU, CUDA) and (kind != CUDA or not number.isdecimal()):
        raise ConfigError(f"theta.merge.device is {setting!r}", hint="git config theta.merge.device auto")
    if setting == CPU or (setting == "auto" and not any(Path("/dev", name).exists() for name in _DRIVERS)):
        return (CPU,)
    if setting == "auto" and not is_installed("torch"):
        return (CPU,)
    require("torch", f"theta.merge.device {setting!r}")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == "auto" and not count:
        return (CPU,)
    if int(number or 0) >= count:
        raise ConfigError(
            f"theta.merge.device is {setting!r}, but there is no such device", hint="git config theta.merge.device cpu"
        )
    return (f"{CUDA}:{int(number)}",) if number else tuple(f"{CUDA}:{index}" for index in range(count))


def open_devices(setting: str) -> Devices:
    """Return the devices that ``theta.merge.device`` names; with ``auto`` the CPU is a spare device.

    Raises:
        ConfigError: The setting has another value, or there is no such device.
        LibraryError: Torch is not installed.
    """
    from git_theta_ext.merging.devices.cuda import Cuda

    used = tuple(Cpu() if name == CPU else Cuda(name) for name in device_names(setting))
    return Devices(used, Cpu() if setting == "auto" else None)
