"""Write the arrays of a directory of zarr or Orbax to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.operations.conversion.arrays import open_arrays
from git_theta_ext.operations.conversion.output import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.array_directory import ArrayDirectory
    from git_theta_ext.operations.conversion.targets import Target
    from git_theta_ext.util.reporter import Reporter


def import_arrays(  # noqa: PLR0913 - named
    directory: ArrayDirectory,
    target: Target,
    path: Path,
    reporter: Reporter,
    *,
    patterns: Sequence[str] = (),
    hint: str,
    dry_run: bool = False,
) -> dict[str, TensorSpec]:
    """Write arrays to a checkpoint in bounded memory; what Orbax saved besides arrays is reported as left out.

    Args:
        directory: The directory.
        target: Format of the checkpoint.
        path: The file to replace.
        reporter: Takes notes and progress.
        patterns: Names or globs of arrays; none for all.
        hint: The command that lists the arrays.
        dry_run: Whether to write nothing.

    Returns:
        Element type and shape of each array, by name.

    Raises:
        UsageError: A pattern matches no array.
        FormatError: An array is damaged, or cannot be written without a loss.
        LibraryError: tensorstore is not installed.
        StoreError: The checkpoint cannot be written.
    """
    for name, kind in directory.left_out().items():
        reporter.warning(f"{name!r} is left out: a {kind} is not an array")
    arrays = open_arrays(directory, path.absolute().parent, patterns, hint=hint)
    specs = dict(arrays.specs)
    target.check(specs)
    if not dry_run:
        total = sum(spec.nbytes for spec in specs.values())
        with reporter.progress("reading", total) as advance, writing(target, path) as output:
            target.write(output, arrays.counted(advance), {})
    return specs
