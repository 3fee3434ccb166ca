"""The comment on a pull request or merge request, of which there is one: a later run replaces its text."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import RemoteError
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARKER = "<!-- git theta: models -->"
"""The first line of the comment, by which a later run finds it. Pages do not show it."""

_SECONDS = 30
_PAGE = 100
_PAGES = 50


@dataclass(frozen=True)
class Discussion:
    """The comments on a pull request or merge request.

    Attributes:
        listed: URL that lists the comments and takes new ones.
        comment: URL of one comment, without its number.
        edit: HTTP method that replaces a comment.
        headers: Headers of each request, such as the one with the token.
        longest: Number of characters that a comment may have.
    """

    listed: str
    comment: str
    edit: str
    headers: Mapping[str, str] = field(repr=False)
    longest: int

    def post(self, text: str, *, only_edit: bool = False) -> bool:
        """Write the comment, or replace the text of the one that an earlier run wrote.

        Args:
            text: Markdown. What is longer than a comment may be is left out, from a line on.
            only_edit: Write nothing if there is no comment yet.

        Returns:
            Whether there is a comment now.

        Raises:
            RemoteError: The server refused, or cannot be reached.
        """
        body = {"body": shortened(f"{MARKER}\n{text}", self.longest)}
        number = next(self._earlier(), None)
        if number is not None:
            self._request(self.edit, f"{self.comment}/{number}", body)
        elif not only_edit:
            self._request("POST", self.listed, body)
        return number is not None or not only_edit

    def _earlier(self) -> Iterator[int]:
        for page in range(1, _PAGES + 1):
            found = self._request("GET", f"{self.listed}?per_page={_PAGE}&page={page}")
            if not isinstance(found, list):
                raise RemoteError(f"{self.listed} is not a list of comments", hint="check the URL of the API")
            yield from (comment["id"] for comment in found if str(comment.get("body", "")).startswith(MARKER))
            if len(found) < _PAGE:
                return

    def _request(self, method: str, url: str, data: Mapping[str, str] | None = None) -> Any:
        if not url.startswith(("https://", "http://")):
            raise RemoteError(f"{url} is not a URL of a web server", hint="check the URL of the API")
        content = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - checked above
        for name, value in self.headers.items():
            request.add_unredirected_header(name, value)  # another server does not get the token
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                hint = "give the job a token that may write comments"
                raise RemoteError(f"{method} {url}: {error.code} {error.reason}", hint=hint) from error
        except (OSError, ValueError) as error:
            raise RemoteError(f"{method} {url}: {error}", hint="check the URL of the API") from error


def shortened(text: str, longest: int) -> str:
    """Return text of at most a number of characters: whole lines, and a last one that says if some are left out."""
    if len(text) <= longest:
        return text
    note = "\n\nThe rest is in the summary of the job.\n"
    return text[: text.rindex("\n", 0, longest - len(note))] + note
