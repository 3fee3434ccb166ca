"""A manifest as text that people read: what git shows for a checkpoint if it asks for text (``textconv``).

Git starts a process for each version that it shows, so this module imports as little as possible. It shows the lines
that a manifest has, even if these are not valid: an error would end the whole ``git log``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take as long as a manifest
if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = b"# git theta textconv:"
"""How the text begins, by which it is told from a checkpoint."""

MAGIC = b"git-theta manifest 1\n"
"""That of ``model.manifest``, whose import takes longer than the text."""
_TITLE = MARK + b" name, type, shape, digest\n"
_DIGITS = 16
_COLUMNS = 4


def manifest_text(data: bytes) -> bytes:
    """Return the text for a manifest.

    A parameter is one line, which depends on nothing but the parameter: what did not change is the same text.
    """
    return _TITLE + b"".join(line.encode(errors="surrogateescape") + b"\n" for line in _lines(data))


def _lines(data: bytes) -> Iterator[str]:
    conflicts = False
    text = data[len(MAGIC) :].decode(errors="surrogateescape")
    for line in text.removesuffix("\n").split("\n"):
        columns = [_shown(column) for column in line.split("\t")]
        first = columns[0].split(" ")
        if line == "conflict":
            conflicts = True
        elif conflicts:
            yield f"conflict  {'  '.join(columns[:2])}"
        elif len(columns) == _COLUMNS:
            name, dtype, shape, digest = columns
            yield f"{name}  {dtype} {shape}  {digest[:_DIGITS]}"
        elif first[0] == "skeleton" and len(first) > 1:
            yield f"order and metadata  {first[1][:_DIGITS]}"
        else:
            yield "  ".join(columns)


def _shown(column: str) -> str:
    """Return a column without the quotes, which names need only if characters in them are escaped."""
    inner = column[1:-1]
    text = inner if column == f'"{inner}"' and "\\" not in inner else column
    if text.isprintable():
        return text
    from git_theta_ext.util.text import printable_line  # few names need it

    return printable_line(text)
