"""What a job of GitHub Actions or GitLab CI says of itself in its environment.

Sources: GitHub's "Default environment variables" and "Events that trigger workflows"; GitLab's "Predefined CI/CD
variables".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.ci.comments import Discussion
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "GIT_THETA_TOKEN"  # noqa: S105 - the variable's name

_GITHUB_LONGEST = 65_536
_GITLAB_LONGEST = 1_000_000


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        base: The commit to compare HEAD with; None if there is none, as for the first push of a branch.
        in_request: Whether the job is one of a pull request or merge request.
        discussion: Where to comment; None outside a pull request and without a token.
    """

    base: str | None = None
    in_request: bool = False
    discussion: Discussion | None = None


def job_of(environment: Mapping[str, str]) -> Job:
    """Return the job that an environment describes; an empty one elsewhere."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    return Job()


def _github(environment: Mapping[str, str]) -> Job:
    path = environment.get("GITHUB_EVENT_PATH")
    event = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    request, token = event.get("pull_request"), environment.get(TOKEN)
    if not request:
        return Job(_commit(event.get("before")))
    url = f"{environment['GITHUB_API_URL']}/repos/{environment['GITHUB_REPOSITORY']}/issues"
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    discussion = Discussion(f"{url}/{request['number']}/comments", f"{url}/comments", "PATCH", headers, _GITHUB_LONGEST)
    # The commit in the event is older than the one that GitHub merged if the branch has moved since.
    return Job(f"origin/{request['base']['ref']}", in_request=True, discussion=discussion if token else None)


def _gitlab(environment: Mapping[str, str]) -> Job:
    number, token = environment.get("CI_MERGE_REQUEST_IID"), environment.get(TOKEN)
    if not number:
        return Job(_commit(environment.get("CI_COMMIT_BEFORE_SHA")))
    project = f"{environment['CI_API_V4_URL']}/projects/{environment['CI_PROJECT_ID']}"
    url = f"{project}/merge_requests/{number}/notes"
    discussion = Discussion(url, url, "PUT", {"PRIVATE-TOKEN": token or ""}, _GITLAB_LONGEST)
    base = _commit(environment.get("CI_MERGE_REQUEST_DIFF_BASE_SHA"))
    return Job(base, in_request=True, discussion=discussion if token else None)


def _commit(name: str | None) -> str | None:
    """Return a commit; None for what stands for none, which is all zeros."""
    return name if name and name.strip("0") else None
