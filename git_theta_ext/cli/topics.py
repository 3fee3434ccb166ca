"""The pages of the documentation that ``git theta help`` shows. They are installed with the package."""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_TITLE = re.compile(r"\A(?:<!--.*?-->\s*)*# (.+)")
_NO_TOPICS = ("architecture.md", "index.md", "python.md")
"""Pages of the site that consist of directives."""

_COMMENT = re.compile(r"(?<=\n\n)(?:<!--.*?-->\n+)+|<!--.*?-->\n?", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)\n*")
_PAGE_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)#]*)(?:#[^)]*)?\)")


def topics() -> dict[str, str]:
    """Return the titles of all pages by topic, in alphabetical order.

    A topic is the path of a page below ``docs/``, without its suffix.
    """
    folder = docs_folder()
    pages = sorted(path for path in folder.rglob("*.md") if path.name not in _NO_TOPICS)
    heads = {path.relative_to(folder).with_suffix("").as_posix(): _TITLE.match(_text(path)) for path in pages}
    return {topic: head[1] for topic, head in heads.items() if head is not None}


def page(topic: str) -> str:
    """Return the page of a topic in Markdown, without the comments, which are for the programs that make the pages."""
    return _COMMENT.sub("", _text(docs_folder() / f"{topic}.md"))


def plain(topic: str) -> str:
    """Return the page of a topic without what a terminal cannot show: pictures, and links to pages.

    The pages that it links to are named at its end.
    """
    text = _PICTURE.sub("", page(topic))
    known, place = topics(), Path(topic).parent
    links = (target for _, target in _PAGE_LINK.findall(text) if target.endswith(".md"))
    named = dict.fromkeys(_joined(place, link) for link in links)
    others = [f"`git theta help {name}`" for name in named if name in known and name != topic]
    more = f"\n## See also\n\n{', '.join(others)}\n" if others else ""
    return _PAGE_LINK.sub(r"\1", text) + more


def _joined(place: Path, link: str) -> str:
    parts: list[str] = []
    for part in (place / link).with_suffix("").parts:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/".join(parts)


def docs_folder() -> Path:
    """Return the directory of the pages: in the package, or beside it in a clone."""
    installed = _PACKAGE / "docs"
    return installed if installed.is_dir() else _PACKAGE.parent / "docs"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
