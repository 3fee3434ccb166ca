"""Compare versions of models in Python: ``git_theta_ext.diff``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from git_theta_ext.api.versions import LOG, explained, folder_of, revision_name, version_name, version_of
from git_theta_ext.checkpoint.resharded import store_whole
from git_theta_ext.comparison.page import diff_page
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.text import render
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.operations.history.numbers import measure_versions
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import replace
from git_theta_ext.util.libraries import require
from git_theta_ext.util.reporter import LogReporter
from git_theta_ext.webpage.render import framed

if TYPE_CHECKING:
    import pandas as pd

    from git_theta_ext.api.versions import Path, Place, Revision
    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.model.tensor import Digest


@explained()
def diff(old: Revision, new: Revision, path: Path | None = None, *, repository: Place = ".") -> Comparison:
    """Compare two versions of a model, parameter by parameter. Missing tensors are fetched from a remote.

    Example:
        >>> git_theta_ext.diff("v1.0", "v2.0", "model.safetensors")
        >>> git_theta_ext.diff("v1.0:model.safetensors", "v2.0:renamed.safetensors")

    Args:
        old: A revision, or a ``git.Commit`` of GitPython; ``REV:PATH`` if there is no ``path``.
        new: The newer version, in the same way.
        path: A checkpoint or a directory with one model, as in ``load``.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython.

    Raises:
        ThetaError: A version does not exist or cannot be read.
    """
    folder = folder_of(repository)
    names = [revision_name(rev) if path is None else version_name(os.fspath(path), rev) for rev in (old, new)]
    with Workspace.discover(LogReporter(LOG), folder) as workspace:
        before, after = (version_of(workspace.repo, name, folder) for name in names)
        before, after = _whole(workspace, before, after), _whole(workspace, after, before)
        ensure_digests(workspace, _modified(before, after))
        change = measure_versions(workspace, names[1], before.shards, after.shards)
    return Comparison(replace(change, old_path=names[0]))


def _whole(workspace: Workspace, version: ModelVersion, other: ModelVersion) -> ModelVersion:
    """Return a version in which tensors that differ from those of another version are in one piece."""
    names = {name for name, tensor in version.joined.items() if other.joined.get(name) != tensor}
    if not names:
        return version
    ensure_digests(workspace, {digest for name in names for digest in version.joined[name].digests})
    parameters = store_whole(workspace.store, version, names)
    return ModelVersion({next(iter(version.shards)): replace(version.as_one(), parameters=parameters)})


def _modified(old: ModelVersion, new: ModelVersion) -> set[Digest]:
    pairs = [(old.parameters[name], value) for name, value in new.parameters.items() if name in old.parameters]
    return {value.digest for pair in pairs if pair[0] != pair[1] for value in pair}


class Comparison:
    """How two versions of a model differ; ``git_theta_ext.diff`` returns it.

    It prints as ``git theta diff`` does. A notebook shows it as the page of ``git theta diff --html``.
    """

    def __init__(self, change: ModelChange) -> None:
        self._change = change

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``git theta diff --json`` has it; docs/diff.md describes the keys."""
        return to_json(self._change)

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of the parameters that changed.

        The index is the name. The columns are the keys of ``parameters`` in ``git theta diff --json``, such as
        ``change``, ``old.dtype`` and ``stats.relative``.

        Raises:
            LibraryError: pandas is not installed.
        """
        require("pandas", "to_pandas()")
        import pandas as pd

        rows = self.to_dict()["parameters"]
        return pd.json_normalize(rows or [{"name": "", "change": ""}]).set_index("name").head(len(rows))

    def __bool__(self) -> bool:
        """Return whether the versions differ."""
        return not self._change.diff.empty

    def __repr__(self) -> str:
        """Return it as text."""
        return render(self._change, Screen())

    def _repr_html_(self) -> str:
        return framed(diff_page(self._change.headline, [self._change]))
