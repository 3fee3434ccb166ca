"""A CUDA device whose memory is the processor's, to test what is ours of it."""

from contextlib import nullcontext

import torch

from git_theta_ext.merging.devices import cuda


class Event:
    """Stands for all copies that were begun when it was recorded."""

    mode = None

    def __init__(self, blocking=False):
        self.behind = []

    def record(self, _stream):
        self.behind = list(self.mode.waiting) if self.mode else []

    def synchronize(self):
        if self.mode and self.behind:
            left = [id(each) for each in self.mode.waiting]
            if id(self.behind[-1]) in left:
                self.mode.go_on(left.index(id(self.behind[-1])) + 1)


def emulate(monkeypatch, slab_bytes, name="cuda:0"):
    """Return such a device, with slabs of so many bytes."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 31))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    monkeypatch.setattr(cuda, "_pinned", lambda *shape: torch.empty(shape, dtype=torch.uint8))
    monkeypatch.setattr(cuda, "_SLAB_BYTES", slab_bytes)
    lane = cuda._Lane
    monkeypatch.setattr(cuda, "_Lane", lambda _, rooms: lane(torch.device("cpu"), rooms))
    return cuda.Cuda(name)
