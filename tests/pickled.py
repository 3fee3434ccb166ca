"""Workers that send jobs and results through pickle, as other machines get them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.cluster.here import LocalWorkers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.cluster.jobs import Job, Result


class PickledWorkers(LocalWorkers):
    """Runs copies of jobs in threads."""

    def gather(self, jobs: Iterable[Job[Result]]) -> Iterator[Result]:
        """Yield a copy of the result of each job."""
        copies = (replace(job, run=pickle.loads(pickle.dumps(job.run))) for job in jobs)
        for result in super().gather(copies):
            yield pickle.loads(pickle.dumps(result))
