"""Explain the errors of obstore, whose texts have the status and the cause, but not as values."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BUSY = frozenset({429, 503})
_DENIED = frozenset({401, 403})
_RANGE_NOT_SATISFIABLE = 416
_NOT_FOUND = 404
_NOT_IMPLEMENTED = 501
_WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"})

# obstore appends the whole error in Rust's notation, which has the cause of a failed connection.
_DETAILS = "\n\nDebug source:\n"
_STATUS = re.compile(r"status code: (\d{3})(?: ([A-Za-z][A-Za-z' -]{0,50}))?")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_SYSTEM = re.compile(r'\bmessage: "([^"\n]{1,200})"')
_CERTIFICATE = re.compile(r"\bInvalidCertificate\(\s*(\w{1,64})")
_LOOKUP = re.compile(r'\berror: "(failed to lookup address information[^"\n]{0,200})"')
_SILENT = re.compile(r"\bkind: Timeout\b|\bTimedOut\b")
_METADATA = re.compile(r"169\.254\.169\.254|/latest/api/token|/metadata/identity|metadata\.google\.internal")
_NO_RANGES = re.compile(r"non-partial response|Range request not supported")
_TOO_FAR = "Wanted range starting at"
_BARE_REDIRECT = "redirect without LOCATION"


@dataclass(frozen=True)
class Failure:
    """What an error of obstore says.

    Attributes:
        status: The status code of the server, or 0 if there was no answer.
        reason: What went wrong, for people. It has neither the body of the answer nor the address, which may have a
            signature.
        code: The error code in the answer of S3 and Azure, such as ``NoSuchBucket``.
        silent: Whether the server did not answer in time.
        whole: Whether the server sent a whole object although a range was requested.
        no_credentials: Whether credentials were asked of the machine, which has none.
        wrong_region: Whether the bucket is in another region.
    """

    status: int = 0
    reason: str = ""
    code: str = ""
    silent: bool = False
    whole: bool = False
    no_credentials: bool = False
    wrong_region: bool = False

    @property
    def busy(self) -> bool:
        """Whether the server asks to come back later."""
        return self.status in _BUSY

    @property
    def denied(self) -> bool:
        """Whether the credentials do not allow it."""
        return self.status in _DENIED

    @property
    def behind_the_end(self) -> bool:
        """Whether the range begins after the end of the object."""
        return self.status == _RANGE_NOT_SATISFIABLE or self.reason.startswith(_TOO_FAR)

    @property
    def missing(self) -> bool:
        """Whether there is no such object or bucket."""
        return self.status == _NOT_FOUND

    @property
    def unsupported(self) -> bool:
        """Whether the server does not know such requests."""
        return self.status == _NOT_IMPLEMENTED


def read_failure(error: BaseException) -> Failure:
    """Return what an error of obstore says."""
    text, _, details = str(error).partition(_DETAILS)
    status, code = _STATUS.search(text), _CODE.search(text)
    reason = _reason(text, details)
    if status:
        reason = " ".join(part for part in status.groups() if part) + (f" ({code[1]})" if code else "")
    elif isinstance(error, FileNotFoundError):
        reason = "404 Not Found"
    return Failure(
        int(status[1]) if status else _NOT_FOUND if isinstance(error, FileNotFoundError) else 0,
        reason,
        code[1] if code else "",
        silent=not status and bool(_SILENT.search(details)),
        whole=bool(_NO_RANGES.search(text)),
        no_credentials=bool(_METADATA.search(text)),
        wrong_region=_BARE_REDIRECT in text or bool(code and code[1] in _WRONG_REGION),
    )


def _reason(text: str, details: str) -> str:
    """Return why there was no answer with a status."""
    if match := _CERTIFICATE.search(details):
        return f"the certificate of the server is not trusted ({match[1]})"
    if match := _LOOKUP.search(details) or _SYSTEM.search(details):
        return match[1]
    if "HTTP error" in text:
        return "the connection was interrupted"
    if _BARE_REDIRECT in text:
        return "the bucket is in another region"
    return text.rpartition(" error: ")[2].rpartition(" - ")[2].partition("\n")[0][:200]
