"""What checkpoints are converted to: element types that exist there, and what writes it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

_PACKAGE = "git_theta_ext.operations.conversion"
_NOT_IN_ZARR = (
    frozenset({"BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}),
    "the library zarr",
)


@dataclass(frozen=True)
class Target:
    """What checkpoints can be converted to.

    Attributes:
        name: What users type.
        module: Module with ``types``, ``refuse`` and ``write``.
        summary: What is written, in Markdown.
        suffixes: File names that mean it.
        directory: Whether it is a directory instead of a file.
        options: Further arguments of ``write``.
        unread: Element types that a usual reader of the format lacks, and that reader.
    """

    name: str
    module: str
    summary: str
    suffixes: tuple[str, ...] = ()
    directory: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    unread: tuple[frozenset[str], str] = (frozenset(), "")

    def check(self, specs: Mapping[str, TensorSpec]) -> None:
        """Refuse tensors that cannot be written without a loss.

        Raises:
            FormatError: The message names the parameter and the reason.
            LibraryError: A library that it takes is not installed.
        """
        module = import_module(f"{_PACKAGE}.{self.module}")
        types: Mapping[str, object] = module.types()
        for name, spec in specs.items():
            if spec.dtype.name not in types:
                kind = spec.dtype.name
                what = f"has elements of the type {kind}" if spec.dtype.kind != "opaque" else f"has blocks of {kind}"
                raise FormatError(f"parameter {name!r} {what}, which {self.name} does not have", hint=self._hint)
        module.refuse(specs)

    def note(self, specs: Mapping[str, TensorSpec]) -> str | None:
        """Return what the user should know of tensors that ``check`` accepted; None if there is nothing."""
        lacking, reader = self.unread
        kinds = sorted({spec.dtype.name for spec in specs.values()} & lacking)
        return f"{reader} cannot read elements of the type {', '.join(kinds)}; tensorstore can" if kinds else None

    def write(self, path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
        """Write tensors that ``check`` accepted.

        Args:
            path: The file, or the directory, which exists and is empty.
            tensors: What to write, in this order if the format has one.
            metadata: Texts by key, for formats that have some.

        Raises:
            OSError: It cannot be written.
        """
        write: Callable[..., None] = import_module(f"{_PACKAGE}.{self.module}").write
        write(path, tensors, metadata, **self.options)

    @property
    def _hint(self) -> str:
        return "choose other parameters with --param, or another format with --to"


def _zarr(name: str, version: int) -> Target:
    summary, options = f"a group of zarr {version}", {"version": version}
    return Target(name, "zarr_directory", summary, directory=True, options=options, unread=_NOT_IN_ZARR)


TARGETS = {
    target.name: target
    for target in (
        Target("safetensors", "safetensors_file", "a file of safetensors", (".safetensors",)),
        Target("torch", "torch_file", "a file of `torch.save` with a state dict", (".pt", ".pth", ".bin", ".ckpt")),
        Target("npz", "npz_file", "an uncompressed archive of numpy", (".npz",)),
        Target(
            "zarr", "zarr_directory", "a group of zarr 2", directory=True, options={"version": 2}, unread=_NOT_IN_ZARR
        ),
        Target(
            "zarr3", "zarr_directory", "a group of zarr 3", directory=True, options={"version": 3}, unread=_NOT_IN_ZARR
        ),
        Target("orbax", "orbax_directory", "a PyTree checkpoint of Orbax, with OCDBT", directory=True),
    )
}
"""Name to target."""

FILES = {name: target for name, target in TARGETS.items() if not target.directory}
"""The targets that git theta tracks: files."""


def named_target(name: str, targets: Mapping[str, Target] = TARGETS) -> Target:
    """Return the target of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in targets:
        raise UsageError(f"unknown format {name!r}", hint=f"use one of {', '.join(targets)}")
    return targets[name]


def target_of(path: Path) -> Target:
    """Return the target that the name of a file means; safetensors if it means none."""
    return next((target for target in TARGETS.values() if path.suffix in target.suffixes), TARGETS["safetensors"])
