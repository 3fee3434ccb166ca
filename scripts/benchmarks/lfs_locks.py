"""The locking API of an ``LfsHost``: locks of paths, in pages, strict about what is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, unquote

MOST = 100

Reply = tuple[int, dict[str, Any]]


@dataclass
class Locks:
    """The locks of a host, and the answers to requests.

    Attributes:
        supported: Whether there is a locking API.
        page: Most locks in an answer.
        by_ref: Whether a path may be locked once on each ref, which requests must name.
        readers: Names of users who may not change locks.
        table: The locks, each with its ref.
    """

    supported: bool = True
    page: int = MOST
    by_ref: bool = False
    readers: set[str] = field(default_factory=set)
    table: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    count: int = 0

    def respond(self, method: str, place: str, query: str, body: bytes, user: str) -> Reply:
        """Answer a request for a place below ``/locks``."""
        if not self.supported:
            return 404, {"message": "Not found"}
        if method == "GET":
            return self._list({key: values[0] for key, values in parse_qs(query, strict_parsing=bool(query)).items()})
        asked = json.loads(body)
        if user in self.readers:
            return 403, {"message": "You must have push access"}
        if self.by_ref and not asked.get("ref", {}).get("name", "").startswith("refs/"):
            return 422, {"message": "no ref"}
        if place.endswith("/unlock"):
            return self._unlock(place.split("/")[1], asked, user)
        return self._verify(asked, user) if place else self._lock(asked, user)

    def lock(self, path: str, user: str, ref: str = "", at: str = "") -> dict[str, Any]:
        """Add a lock, and return it."""
        self.count += 1
        at = at or datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        lock = {"id": f"lock-{self.count}", "path": path, "locked_at": at, "owner": {"name": user}}
        self.table.append((lock, ref))
        return lock

    def held(self) -> dict[str, str]:
        """Return the owner of each path."""
        return {lock["path"]: lock["owner"]["name"] for lock, _ in self.table}

    def _on(self, ref: str) -> list[dict[str, Any]]:
        return [lock for lock, at in self.table if not self.by_ref or not ref or at in {"", ref}]

    def _lock(self, asked: dict[str, Any], user: str) -> Reply:
        path, ref = asked.get("path"), asked.get("ref", {}).get("name", "")
        if not isinstance(path, str) or not path or path.startswith("/") or "\\" in path or ".." in path.split("/"):
            return 422, {"message": "no path"}
        for lock in self._on(ref):
            if lock["path"] == path:
                return 409, {"lock": lock, "message": "already created lock"}
        return 201, {"lock": self.lock(path, user, ref)}

    def _list(self, asked: dict[str, str]) -> Reply:
        if unknown := set(asked) - {"path", "id", "cursor", "limit", "refspec"}:
            return 422, {"message": f"unknown {unknown}"}
        found = [
            lock
            for lock in self._on(asked.get("refspec", ""))
            if asked.get("path") in {None, lock["path"]} and asked.get("id") in {None, lock["id"]}
        ]
        return self._page(found, asked, lambda some: {"locks": some})

    def _verify(self, asked: dict[str, Any], user: str) -> Reply:
        def sides(some: list[dict[str, Any]]) -> dict[str, Any]:
            ours = [lock for lock in some if lock["owner"]["name"] == user]
            return {"ours": ours, "theirs": [lock for lock in some if lock not in ours]}

        return self._page(self._on(asked.get("ref", {}).get("name", "")), asked, sides)

    def _page(self, found: list[dict[str, Any]], asked: dict[str, Any], write: Any) -> Reply:
        start = int(asked.get("cursor") or 0)
        end = start + min(int(asked.get("limit") or MOST), self.page)
        further = {"next_cursor": str(end)} if end < len(found) else {}
        return 200, {**write(found[start:end]), **further}

    def _unlock(self, name: str, asked: dict[str, Any], user: str) -> Reply:
        for item in self.table:
            lock = item[0]
            if lock["id"] == unquote(name):
                if lock["owner"]["name"] != user and asked.get("force") is not True:
                    return 403, {"message": "You must be the owner, or force it"}
                self.table.remove(item)
                return 200, {"lock": lock}
        return 404, {"message": "no such lock"}
