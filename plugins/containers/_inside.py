"""Unpack the members of archives that are compressed files themselves, and pack them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError

from ._deflate import most_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Container, Content, Target


class InnerPacking(NamedTuple):
    """How a member is made of its content: the name of a container, and its recipe."""

    container: str
    recipe: bytes


class Unpacked(NamedTuple):
    """The content of a compressed member, and how it is packed again."""

    content: Target
    packing: InnerPacking


class Inside:
    """The containers that members may be.

    Args:
        containers: The containers, which look for no further ones inside.
    """

    def __init__(self, containers: Sequence[Container]) -> None:
        self._containers = {container.name: container for container in containers}

    def detect(self, member: Content) -> bool:
        """Return whether a member looks compressed."""
        return any(container.detect(member) for container in self._containers.values())

    def unpack(self, member: Content, target: Target) -> Unpacked | None:
        """Return the content of a member; None if it is not compressed, or would not come back.

        Args:
            member: The member.
            target: The archive that is written.
        """
        for container in self._containers.values():
            if container.detect(member):
                content = target.another()
                recipe = container.unpack(member, content)
                return None if recipe is None else Unpacked(content, InnerPacking(container.name, recipe))
        return None

    def pack(self, content: Content, packing: InnerPacking, target: Target) -> Target:
        """Return a member, given its content.

        Raises:
            FormatError: It cannot be packed so.
        """
        container = self._containers.get(packing.container)
        if container is None:
            raise FormatError(f"no container {packing.container!r} can be in an archive")
        packed = target.another()
        container.pack(content, packing.recipe, packed)
        return packed


class Budget:
    """Limits the contents of all members of an archive together.

    Args:
        nbytes: Size of the archive.
    """

    def __init__(self, nbytes: int) -> None:
        self._left = most_bytes(nbytes)

    def take(self, nbytes: int) -> None:
        """Count the content of a member.

        Raises:
            FormatError: It is too much.
        """
        self._left -= nbytes
        if self._left < 0:
            raise FormatError("the contents of the members are too large")


def write_packings(packings: Mapping[int, InnerPacking]) -> bytes:
    """Return the packings of members, by their numbers, as bytes."""
    made = bytearray()
    for number, (container, recipe) in sorted(packings.items()):
        name = container.encode()
        made += number.to_bytes(4, "little") + bytes([len(name)]) + name + len(recipe).to_bytes(4, "little") + recipe
    return bytes(made)


def read_packings(data: bytes, members: int) -> dict[int, InnerPacking]:
    """Return the packings that bytes hold.

    Args:
        data: The bytes.
        members: Number of the members of the archive.

    Raises:
        FormatError: They are damaged.
    """
    found: dict[int, InnerPacking] = {}
    at = 0
    while at < len(data):
        number = int.from_bytes(data[at : at + 4], "little")
        name_at = at + 5
        size_at = name_at + (data[at + 4] if at + 4 < len(data) else 0)
        size = int.from_bytes(data[size_at : size_at + 4], "little")
        at = size_at + 4 + size
        if at > len(data) or number >= members or (found and number <= max(found)):
            raise FormatError("a recipe has a damaged packing of a member")
        name = data[name_at:size_at].decode("ascii", "replace")
        found[number] = InnerPacking(name, data[size_at + 4 : at])
    return found
