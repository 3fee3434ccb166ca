"""Workers that send jobs and results through pickle, as other machines get them."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.cluster.here import LocalWorkers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.cluster.jobs import Job, Result


def _view(content: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(content)


class _Pickler(pickle.Pickler):
    """Pickles views of dictionaries, as the pickler of Ray does."""

    def reducer_override(self, value: object) -> Any:
        return (_view, (dict(value),)) if isinstance(value, MappingProxyType) else NotImplemented


def copied(value: Any) -> Any:
    """Return what arrives on another machine."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return pickle.loads(file.getvalue())


class PickledWorkers(LocalWorkers):
    """Runs copies of jobs in threads."""

    def gather(self, jobs: Iterable[Job[Result]]) -> Iterator[Result]:
        """Yield a copy of the result of each job."""
        copies = (replace(job, run=copied(job.run)) for job in jobs)
        for result in super().gather(copies):
            yield copied(result)
