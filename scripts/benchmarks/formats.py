"""Measure each file format: what ``git add`` takes, and what one edited tensor costs, against safetensors."""

from __future__ import annotations

import json
import logging
import shutil
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import markdown
from benchmarks.tools import MODEL, Repository, Tool, digest, environment, floor
from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.file import open_file
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.reporter import LogReporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store

    Row = dict[str, Any]

TRACKED = Tool("git-theta", (("theta", "install", "--local"), ("theta", "track", MODEL)), "theta")
LARGEST_SHARE = 4
"""The tensor that is edited is the largest that has at most one fourth of the file."""
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def measure(files: Sequence[Path], folder: Path) -> list[Row]:
    """Measure each file, and its tensors as safetensors.

    Args:
        files: Checkpoints of any format.
        folder: An existing folder to work in.

    Returns:
        A row for each file. Files without a float tensor have no figures for the edited tensor.

    Raises:
        RuntimeError: A restored file differs.
    """
    env = environment(folder / "home")
    rows = []
    for number, path in enumerate(files):
        place = folder / str(number)
        place.mkdir()
        rows.append(_row(path, place, env))
        shutil.rmtree(place)
    return rows


def table(rows: list[Row]) -> str:
    """Render the results as Markdown."""
    columns = ["file", "size", "format", "tensors", "in tensors", "stored", "add", "CPU", "peak", "of safetensors' CPU"]
    columns += ["checkout CPU", "peak", "edited", "edit stored, of the file", "of safetensors'"]
    return markdown(columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    cells = [row["name"], f"{row['nbytes'] / 1e6:.1f} MB", row["format"], str(row["tensors"]), f"{row['share']:.1%}"]
    cells += [
        f"{row['stored'] / row['nbytes']:.3f}",
        f"{row['add']:.2f} s",
        f"{row['cpu']:.2f} s",
        f"{row['peak'] / 1e6:.0f} MB",
    ]
    restored = [f"{row['checkout_cpu']:.2f} s", f"{row['checkout_peak'] / 1e6:.0f} MB"]
    if "edited" not in row:
        return [*cells, "", *restored, "", "", ""]
    cells += [f"{row['cpu'] / row['safetensors_cpu']:.2f}", *restored, f"{row['edited'] / 1e6:.2f} MB"]
    return [*cells, f"{row['edit'] / row['nbytes']:.4f}", f"{row['edit'] / row['safetensors_edit']:.3f}"]


def _row(path: Path, place: Path, env: dict[str, str]) -> Row:
    scratch = Repository(place / "scratch", TRACKED, env)
    edited, plain, plain_edited = (place / name for name in ("edited", "plain", "plain-edited"))
    with Workspace.discover(LogReporter(logging.getLogger("benchmarks")), scratch.path) as workspace:
        manifest = clean(open_file(path, path.name), path.name, workspace.store).manifest
        nbytes = sum(value.spec.nbytes for value in manifest.parameters.values())
        row: Row = {"name": path.name, "nbytes": path.stat().st_size, "format": manifest.format}
        row |= {"tensors": len(manifest.parameters), "share": nbytes / path.stat().st_size}
        changed = _edit(manifest, workspace.store)
        if changed is not None:
            populate(changed[0], workspace.store, edited, Expected.at(edited))
            for version, target in ((manifest, plain), (changed[0], plain_edited)):
                _write_safetensors(version, workspace.store, target)
            row["edited"] = changed[1].nbytes
    shutil.rmtree(scratch.path)
    row["floor"] = floor(path, place / "copy")
    if changed is None:
        return row | _added(Repository(place / "repository", TRACKED, env), path, None)
    there = _added(Repository(place / "safetensors", TRACKED, env), plain, plain_edited)
    row |= {f"safetensors_{key}": figure for key, figure in there.items()}
    return row | _added(Repository(place / "repository", TRACKED, env), path, edited)


def _added(repository: Repository, first: Path, second: Path | None) -> Row:
    """Add a file, check it out, and do the same with a second version if there is one; return what it takes."""
    repository.put(first)
    seconds, cpu, peak = repository.spent("add", MODEL)
    repository.git("commit", "--quiet", "--message", "first")
    row: Row = {"add": seconds, "cpu": cpu, "peak": peak, "stored": repository.stored()}
    repository.model.unlink()
    _, row["checkout_cpu"], row["checkout_peak"] = repository.spent("checkout", "--quiet", "--", MODEL)
    _check(repository, first)
    if second is None:
        return row
    repository.git("theta", "gc")
    stored = repository.stored()
    repository.put(second)
    repository.git("commit", "--quiet", "--all", "--message", "second")
    repository.git("theta", "gc")
    row["edit"] = repository.stored() - stored
    for version, path in (("HEAD~1", first), ("main", second)):
        repository.git("checkout", "--quiet", version)
        _check(repository, path)
    return row


def _check(repository: Repository, version: Path) -> None:
    if repository.sha256() != digest(version):
        raise RuntimeError(f"{version} did not come back")


def _edit(manifest: Manifest, store: Store) -> tuple[Manifest, TensorSpec] | None:
    """Store other values of one float tensor; return the manifest that names them, or None without such a tensor."""
    floats = {name: p for name, p in manifest.parameters.items() if p.spec.dtype.name in FLOATS and p.spec.nbytes}
    if not floats:
        return None
    limit = sum(p.spec.nbytes for p in manifest.parameters.values()) // LARGEST_SHARE
    fitting = [name for name, p in floats.items() if p.spec.nbytes <= limit]
    name = (
        max(fitting, key=lambda n: floats[n].spec.nbytes)
        if fitting
        else min(floats, key=lambda n: floats[n].spec.nbytes)
    )
    spec = floats[name].spec
    values = np.frombuffer(store.read(floats[name].digest, spec), FLOATS[spec.dtype.name])
    noise = np.random.default_rng(0).standard_normal(values.size)
    trained = (values * (1 + 0.01 * noise) + 1e-4 * noise).astype(values.dtype).tobytes()
    value = Parameter(spec, tensor_digest(spec, trained))
    store.put([(spec, value.digest, memoryview(trained))])
    return replace(manifest, parameters={**manifest.parameters, name: value}), spec


def _write_safetensors(manifest: Manifest, store: Store, path: Path) -> None:
    """Write the parameters to a safetensors file. Types that it lacks become bytes."""
    header, at = dict[str, Any](), 0
    for name, value in manifest.parameters.items():
        known = value.spec.dtype.name in {*FLOATS, "BF16", "I64", "I32", "U8", "BOOL"}
        dtype, shape = (value.spec.dtype.name, value.spec.shape) if known else ("U8", [value.spec.nbytes])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + value.spec.nbytes]}
        at += value.spec.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in manifest.parameters.values():
            file.write(store.read(value.digest, value.spec))
