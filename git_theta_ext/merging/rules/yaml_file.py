"""Read small YAML files that users write, with errors that name the line.

Tags, anchors and aliases are not allowed. Reading takes less than a second: PyYAML needs tens of microseconds for an
event, so the file's bytes, events and depth are limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import yaml

MOST_BYTES = 1 << 18
"""The maximum size of a file."""
MOST_EVENTS = 1 << 14
"""The maximum number of scalars, and of starts and ends of lists and mappings; a rule has about eight."""
MOST_DEPTH = 8
"""The maximum depth of nested lists and mappings; rules need four."""


@dataclass(frozen=True)
class YamlFile:
    """A file whose nodes are read one by one.

    Attributes:
        name: Its name, for errors.
        hint: The hint of errors.
    """

    name: str
    hint: str

    def parse(self, text: bytes) -> yaml.Node | None:
        """Return the root node; None if the file is empty.

        Raises:
            MergeError: The file is too large, is not YAML, or uses features that are not allowed.
        """
        import yaml

        if len(text) > MOST_BYTES:
            raise MergeError(f"{self.name} exceeds the limit of {MOST_BYTES} bytes")
        try:
            self._check_events(yaml.parse(text.decode(), Loader=yaml.SafeLoader))
            return yaml.compose(text.decode(), Loader=yaml.SafeLoader)
        except UnicodeDecodeError as error:
            raise MergeError(f"{self.name} is not UTF-8", hint=self.hint) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark is not None else ""
            raise MergeError(f"{self.name}{line}: {getattr(error, 'problem', error)}", hint=self.hint) from error

    def mapping(self, node: yaml.Node, allowed: Sequence[str]) -> dict[str, yaml.Node]:
        """Return the nodes of a mapping by key.

        Raises:
            MergeError: The node is no mapping, or has a key twice, or one that is not allowed.
        """
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected a mapping with the keys {', '.join(allowed)}")
        keys: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.value(key)
            if name not in allowed:
                raise self.error(key, f"unknown key {name!r}; the keys are {', '.join(allowed)}")
            if name in keys:
                raise self.error(key, f"duplicate key {name!r}")
            keys[name] = value
        return keys

    def sequence(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        """Return the nodes of the list under a key.

        Raises:
            MergeError: The node is no list.
        """
        import yaml

        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{key!r} must be a list")
        return list(node.value)

    def value(self, node: yaml.Node) -> Any:
        """Return the value of a node: strings, numbers, booleans, lists and mappings.

        Raises:
            MergeError: It is not a valid value.
        """
        import yaml

        loader = yaml.SafeLoader("")
        try:
            if isinstance(node, yaml.MappingNode):
                return {str(self.value(key)): self.value(value) for key, value in node.value}
            return loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self.error(node, "not a valid value") from error
        finally:
            loader.dispose()

    def place(self, node: yaml.Node) -> str:
        """Return the file and the line of a node, for people."""
        return f"{self.name} line {node.start_mark.line + 1}"

    def error(self, node: Any, what: str) -> MergeError:
        """Return an error about a node or an event."""
        return MergeError(f"{self.place(node)}: {what}", hint=self.hint)

    def _check_events(self, events: Iterable[yaml.Event]) -> None:
        """Reject files that take long to read, or use features of YAML that hide their meaning."""
        import yaml

        depth = 0
        for count, event in enumerate(events, 1):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise self.error(event, "anchors and aliases are not allowed")
            if getattr(event, "tag", None) is not None:
                raise self.error(event, "tags are not allowed")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise self.error(event, f"lists and mappings are nested more than {MOST_DEPTH} deep")
            if count > MOST_EVENTS:
                raise self.error(event, "too many rules")
