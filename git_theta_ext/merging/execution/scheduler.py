"""Distribute a merge's work among devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.memory import DeviceMemory, budget, need, threads_each
from git_theta_ext.merging.execution.parallel import shares
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.plan import Plan

    Item = TypeVar("Item")


class DeviceScheduler:
    """Distributes tasks and other work among devices, by bytes.

    Args:
        devices: The devices.
        threads: Number of threads that read and merge, for all of them together.

    Attributes:
        devices: The devices that share the work, followed by the spare device, if there is one.
        threads: Number of threads that read for each of them.
        notes: Messages for the user about devices that cannot be used.
    """

    def __init__(self, devices: Devices, threads: int) -> None:
        self.devices: tuple[Device, ...] = (*devices.used, *([] if devices.spare is None else [devices.spare]))
        self.threads = threads_each(threads, len(devices.used))
        self.notes = devices.notes
        self._used = len(devices.used)
        self._memories = [
            DeviceMemory.of(device.name, self.threads, device.free(), matrices_only=devices.matrices_only)
            for device in self.devices
        ]

    @property
    def _one_takes_all(self) -> bool:
        return self._used == 1 and self._memories[0].takes_all

    def budget(self, plan: Plan, tasks: Sequence[Task]) -> Budget:
        """Estimate what tasks take.

        Raises:
            MergeError: No device has enough memory for a task, and there is no spare one.
        """
        used, spare = self._memories[: self._used], self._memories[self._used :]
        estimate = budget(plan, tasks, used, *spare)
        if estimate.spilled and not spare:
            task = next(task for task in tasks if task.name == estimate.spilled[0])
            raise MergeError(f"{task.name!r} {self._lack(task)}", hint="git config theta.merge.device auto")
        return estimate

    def note(self, tasks: Sequence[Task]) -> list[str]:
        """Return a note about the tasks that the spare device merges."""
        if self._one_takes_all:
            return []
        taken = [task for task in tasks if self._memories[0].takes([task.method.contract])]
        spilled = [task for task in taken if self._allowed([task]) == [self._used]]
        if not spilled:
            return []
        spilled.sort(key=lambda task: need(self._memories[0], task), reverse=True)
        names = shortlist((repr(task.name) for task in spilled), 1)
        return [f"{names} {self._lack(spilled[0])}: merged on the CPU"]

    def tasks(self, tasks: Sequence[Task], *, together: bool = False) -> list[tuple[Device, list[Task]]]:
        """Distribute tasks among the devices that have enough memory for them.

        Args:
            tasks: The tasks; each device keeps their order.
            together: Whether one device has to merge all of them.
        """
        if together:
            return [(self.devices[self._allowed(tasks)[0]], list(tasks))] if tasks else []
        if self._one_takes_all:
            return [(self.devices[0], list(tasks))] if tasks else []
        sizes = [sum(member.spec.nbytes for member in task.members) for task in tasks]
        return self._devices(shares(tasks, sizes, [self._allowed([task]) for task in tasks]))

    def only(self, device: Device) -> DeviceScheduler:
        """Return a scheduler of one of the devices alone."""
        return DeviceScheduler(Devices((device,)), self.threads)

    def work(
        self, items: Sequence[Item], size: Callable[[Item], int], contracts: Sequence[MergeContract]
    ) -> list[tuple[Device, list[Item]]]:
        """Distribute other work, which takes little memory.

        Args:
            items: The parts of the work.
            size: Returns the size of one in bytes.
            contracts: Those of the methods that it is for.
        """
        if self._one_takes_all:
            return [(self.devices[0], list(items))] if items else []
        allowed = range(self._used) if self._memories[0].takes(contracts) else range(self._used, self._used + 1)
        return self._devices(shares(items, list(map(size, items)), [allowed] * len(items)))

    def _devices(self, shared: dict[int, list[Item]]) -> list[tuple[Device, list[Item]]]:
        return [(self.devices[number], items) for number, items in shared.items()]

    def _allowed(self, tasks: Sequence[Task]) -> list[int]:
        """Return the indices of the devices that take tasks and have enough memory; else that of the last device."""
        used = [n for n, memory in enumerate(self._memories[: self._used]) if all(map(memory.may_merge, tasks))]
        return used or [len(self._memories) - 1]

    def _lack(self, task: Task) -> str:
        memory = max(self._memories[: self._used], key=lambda memory: memory.free or 0)
        most = f"{memory.name} has {_megabytes(memory.free or 0)} free"
        return f"needs {_megabytes(need(memory, task))} of memory, and {most}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
