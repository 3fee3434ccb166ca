"""Find the devices that ``theta.merge.device`` asks for."""

from __future__ import annotations

from pathlib import Path

from git_theta_ext.errors import ConfigError
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import CPU, CUDA, Devices
from git_theta_ext.util.libraries import require

_DRIVERS = ("nvidiactl", "dxg", "kfd", "nvhost-ctrl", "nvmap")
"""In /dev: one of these is there where torch may find a CUDA device (NVIDIA's own, Windows', AMD's, two of Tegra's)."""


def device_names(asked: str, *, guess: bool = False) -> tuple[str, ...]:
    """Return the names of the devices that ``theta.merge.device`` asks for.

    Args:
        asked: ``auto`` (all CUDA devices, or the processor where there is none), ``cpu``, ``cuda`` or ``cuda:N``.
        guess: Whether to take it from the lack of a driver that there is no CUDA device, without loading torch.

    Raises:
        ConfigError: It is none of these, or not here.
        LibraryError: Torch is not installed.
    """
    kind, _, number = asked.partition(":")
    if asked not in ("auto", CPU, CUDA) and (kind != CUDA or not number.isdecimal()):
        raise ConfigError(f"theta.merge.device is {asked!r}", hint="git config theta.merge.device auto")
    if asked == CPU or (asked == "auto" and guess and not any(Path("/dev", name).exists() for name in _DRIVERS)):
        return (CPU,)
    require("torch", "a merge method")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto" and not count:
        return (CPU,)
    if int(number or 0) >= count:
        raise ConfigError(
            f"theta.merge.device is {asked!r}, and there is no such device", hint="git config theta.merge.device cpu"
        )
    return (f"{CUDA}:{int(number)}",) if number else tuple(f"{CUDA}:{each}" for each in range(count))


def open_devices(asked: str) -> Devices:
    """Return the devices that ``theta.merge.device`` asks for, with the processor to spare where that is ``auto``.

    Raises:
        ConfigError: It asks for something that does not exist, or is not here.
        LibraryError: Torch is not installed.
    """
    from git_theta_ext.merging.devices.cuda import Cuda

    used = tuple(Cpu() if name == CPU else Cuda(name) for name in device_names(asked))
    return Devices(used, Cpu() if asked == "auto" else None)
