"""Measure how fast each encoding fits, encodes and decodes one large matrix in memory, with one and two threads."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.report import markdown
from git_theta_ext.interfaces import Base, Chunk, Fit
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.registry import built_in, find_encoding
from git_theta_ext.store.packs.format import chunk_count, chunk_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.interfaces import Encoding

    Update = Callable[[torch.Tensor], torch.Tensor]

DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32}
STEP = 2.5e-4  # the distance that weights of 0.07 move in a fine-tune of about 300 steps


@dataclass(frozen=True)
class Held:
    """A tensor in memory, as encodings read it."""

    spec: TensorSpec
    data: memoryview

    @classmethod
    def of(cls, tensor: torch.Tensor, dtype: str) -> Held:
        """Hold the bytes of a tensor."""
        data = tensor.contiguous().view(torch.uint8).numpy().reshape(-1).data
        return cls(TensorSpec.of(dtype, tuple(tensor.shape)), data)

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a range of the bytes."""
        return self.data[start:end]


def _tuned(weights: torch.Tensor) -> torch.Tensor:
    return weights + STEP * torch.randn(weights.shape)


def _scaled(weights: torch.Tensor) -> torch.Tensor:
    return weights * (1 + 0.1 * torch.randn(weights.shape[0], 1))


def _adapted(weights: torch.Tensor) -> torch.Tensor:
    rank = min(8, *weights.shape)
    up, down = torch.randn(weights.shape[0], rank), torch.randn(rank, weights.shape[1])
    return weights + 0.2 * STEP * up @ down


def _signed(weights: torch.Tensor) -> torch.Tensor:
    kept = torch.rand(weights.shape) < 0.05  # noqa: PLR2004 - a density of the paper
    return weights + 4 * STEP * kept * torch.randn(weights.shape).sign()


UPDATES: dict[str, Update] = {
    "dense": _tuned,
    "delta": _tuned,
    "scale": _scaled,
    "low_rank": _adapted,
    "ternary": _signed,
}
"""For each encoding, the kind of update that it is designed for."""


def measure(side: int, repetitions: int) -> list[dict[str, Any]]:
    """Measure all encodings on square matrices.

    Args:
        side: Number of rows and columns.
        repetitions: Number of repetitions, of which the median is taken.

    Raises:
        RuntimeError: An encoding did not restore the same bytes.
    """
    torch.manual_seed(0)
    rows = []
    for dtype, kind in DTYPES.items():
        base = (0.07 * torch.randn(side, side)).to(kind)
        for name in built_in("encodings"):
            new = UPDATES[name](base.float()).to(kind)
            rows.append(_measure(find_encoding(name), Held.of(new, dtype), Held.of(base, dtype), repetitions))
    return rows


def _measure(encoding: Encoding, target: Held, parent: Held, repetitions: int) -> dict[str, Any]:
    about = {"encoding": encoding.name, "dtype": target.spec.dtype.name, "raw_bytes": target.spec.nbytes}
    start = time.perf_counter()
    fit = encoding.fit(target, parent) if encoding.needs else Fit()
    about["fit_seconds"] = time.perf_counter() - start
    if fit is None:
        return about | {"fits": False}
    chunks = chunks_of(encoding, target.spec, parent, fit)
    views = [target.data[slice(*chunk_range(target.spec, n))] for n in range(len(chunks))]
    payloads = [_joined(encoding.encode(*job)) for job in zip(chunks, views, strict=True)]
    outs = [memoryview(np.empty(view.nbytes, np.uint8)) for view in views]
    stored = sum(map(len, payloads)) + sum(spec.nbytes for spec, _ in fit.tensors)
    figures: dict[str, Any] = {"fits": True, "of_raw": stored / target.spec.nbytes}
    for threads in (1, 2):
        figures[f"encode_{threads}"] = _rate(encoding.encode, threads, repetitions, chunks, views)
        figures[f"decode_{threads}"] = _rate(encoding.decode, threads, repetitions, chunks, payloads, outs)
    if outs != views:
        raise RuntimeError(f"{encoding.name} did not bring the same bytes back")
    return about | figures


def chunks_of(encoding: Encoding, spec: TensorSpec, parent: Held, fit: Fit) -> list[Chunk]:
    """Return the chunks of a tensor, each with its bases: the parent's bytes and the tensors of the fit."""
    whole = [Base(of, memoryview(data).cast("B")) for of, data in fit.tensors]
    chunks = []
    for number in range(chunk_count(spec)):
        start, end = chunk_range(spec, number)
        bases = (Base(parent.spec, parent.read(start, end)), *whole)[: len(encoding.needs)]
        chunks.append(Chunk(spec, start, bases, fit.params))
    return chunks


def _joined(pieces: list[Any]) -> memoryview:
    return memoryview(b"".join(pieces))


def _rate(work: Callable[..., Any], threads: int, repetitions: int, *jobs: list[Any]) -> float:
    """Return the rate over all chunks in megabytes of tensor per second of wall time.

    The last list of arguments has the sizes.
    """
    size = sum(view.nbytes for view in jobs[-1])
    rates = []
    with ThreadPoolExecutor(threads) as executor:
        for _ in range(repetitions):
            start = time.perf_counter()
            list(executor.map(work, *jobs))
            rates.append(size / 1e6 / (time.perf_counter() - start))
    return statistics.median(rates)


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown."""
    columns = ["encoding", "type", "of raw", "fit", "encode, 1 thread", "2", "gain", "decode, 1 thread", "2", "gain"]
    return markdown(columns, [_row(row) for row in rows])


def _row(row: dict[str, Any]) -> list[str]:
    head = [row["encoding"], row["dtype"]]
    if not row["fits"]:
        return [*head, "does not fit", f"{row['fit_seconds']:.2f} s", *[""] * 6]
    rates = [
        text
        for way in ("encode", "decode")
        for text in (
            f"{row[f'{way}_1']:.0f} MB/s",
            f"{row[f'{way}_2']:.0f} MB/s",
            f"{row[f'{way}_2'] / row[f'{way}_1']:.2f}",
        )
    ]
    return [*head, f"{row['of_raw']:.4f}", f"{row['fit_seconds']:.2f} s", *rates]
