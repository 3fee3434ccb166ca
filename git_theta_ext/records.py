"""Data classes that take no time before they are used often.

``dataclasses`` generates up to six methods when a class is defined, which takes half a millisecond, and imports 8 ms of
other modules. A filter that git starts defines sixty classes and uses half of them: this was a third of its start. Here
all classes have the same methods, which read the fields of a class. Those of a class of which many objects are made,
compared or hashed are generated then: this takes as long as its first ``_FEW`` objects. They behave like those of
``dataclasses``, whose functions also accept these classes.

``typing.NamedTuple`` compiles the annotations of a class, which takes a millisecond the first time: Python makes all
classes of its syntax trees before it compiles a string. Here they stay as they are.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field, replace
    from typing import Any, NamedTuple

__all__ = ["NamedTuple", "dataclass", "field", "replace"]

_MISSING: Any = object()
_FIELDS = "__theta_fields__"
_FEW = 24
_set = object.__setattr__


class Field:
    """A field as ``dataclasses.Field`` describes it."""

    __slots__ = ("annotation", "compare", "default", "default_factory", "init", "name", "repr")

    def __init__(
        self,
        *,
        default: Any = _MISSING,
        default_factory: Any = _MISSING,
        init: bool = True,
        repr: bool = True,  # noqa: A002 - named as in dataclasses
        compare: bool = True,
    ) -> None:
        self.name = self.annotation = ""
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare = init, repr, compare


class _OfDataclasses:
    """What ``dataclasses`` knows its own classes by, made when it is asked for."""

    __slots__ = ("_cls", "_frozen", "_name")

    def __init__(self, name: str, cls: type, *, frozen: bool) -> None:
        self._name, self._cls, self._frozen = name, cls, frozen

    def __get__(self, _: object, __: type) -> Any:
        import dataclasses

        fields = []
        for one in getattr(self._cls, _FIELDS).values():
            chosen = {name: getattr(one, name) for name in ("default", "default_factory", "init", "repr", "compare")}
            options = {name: value for name, value in chosen.items() if value is not _MISSING}
            fields.append((one.name, one.annotation, dataclasses.field(**options)))
        made = dataclasses.make_dataclass(self._cls.__name__, fields, frozen=self._frozen)
        for name in ("__dataclass_fields__", "__dataclass_params__"):
            setattr(self._cls, name, getattr(made, name))
        return getattr(made, self._name)


def _dataclass(cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True) -> Any:
    """Make a class a data class, as ``dataclasses.dataclass`` does."""
    if cls is None:
        return lambda undecorated: _made(undecorated, frozen=frozen, slots=slots, eq=eq)
    return _made(cls, frozen=frozen, slots=slots, eq=eq)


def _made(cls: type, *, frozen: bool, slots: bool, eq: bool) -> type:
    if any("__dataclass_fields__" in vars(base) and _FIELDS not in vars(base) for base in cls.__mro__[1:]):
        raise TypeError(f"{cls.__qualname__} is derived from a class of dataclasses, and so needs them, too")
    own = _own_fields(cls)
    fields = {name: one for base in reversed(cls.__mro__[1:]) for name, one in vars(base).get(_FIELDS, {}).items()}
    inherited = set(fields)
    fields |= own
    if slots:
        namespace = {name: value for name, value in vars(cls).items() if name not in {*own, "__dict__", "__weakref__"}}
        qualname = cls.__qualname__
        slot_names = tuple(name for name in own if name not in inherited)
        cls = type(cls)(cls.__name__, cls.__bases__, {**namespace, "__slots__": slot_names})
        cls.__qualname__ = qualname
    methods = {
        _FIELDS: fields,
        "__match_args__": tuple(one.name for one in fields.values() if one.init),
        "__dataclass_fields__": _OfDataclasses("__dataclass_fields__", cls, frozen=frozen),
        "__dataclass_params__": _OfDataclasses("__dataclass_params__", cls, frozen=frozen),
        "__repr__": _repr,
    }
    # Python sets the hash to None if a class has only __eq__.
    kept = {name for name in ("__repr__", "__eq__", "__hash__") if vars(cls).get(name) is not None}
    if eq:
        methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    replaced = {name for name in ("__eq__", "__hash__") if methods.get(name) is not None and name not in kept}
    methods |= _first_methods(cls, {"__init__", *replaced}, frozen=frozen)
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if slots:
            methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in kept:
            type.__setattr__(cls, name, method)
    return cls


def _own_fields(cls: type) -> dict[str, Field]:
    """Return the fields that a class declares, and leave it the defaults as attributes."""
    fields: dict[str, Field] = {}
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if f"{annotation}".startswith(("ClassVar", "InitVar", "KW_ONLY")):
            raise TypeError(f"{cls.__qualname__}.{name}: {annotation} needs the dataclasses of Python")
        default = vars(cls).get(name, _MISSING)
        one = default if isinstance(default, Field) else Field(default=default)
        one.name, one.annotation = name, annotation
        if isinstance(default, Field):
            if one.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, one.default)
        fields[name] = one
    return fields


def _first_methods(cls: type, names: set[str], *, frozen: bool) -> dict[str, Callable[..., Any]]:
    """Return methods that read the fields of a class, until generated ones take the places of those named."""
    left = _FEW

    def generate() -> dict[str, Any]:
        methods = _generated(cls, frozen=frozen)
        for name in names:
            methods[name].__qualname__ = f"{cls.__qualname__}.{name}"
            type.__setattr__(cls, name, methods[name])
        return methods

    def used_often() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - becomes a method
        # The generated method raises the error if arguments are missing or unknown.
        if used_often() or not _initialised(cls, self, args, kwargs, _set if frozen else setattr):
            generate()["__init__"](self, *args, **kwargs)

    def __eq__(self: object, other: object) -> bool:  # noqa: N807 - becomes a method
        equal: bool = (generate()["__eq__"] if used_often() else _eq)(self, other)
        return equal

    def __hash__(self: object) -> int:  # noqa: N807 - becomes a method
        number: int = (generate()["__hash__"] if used_often() else _hash)(self)
        return number

    methods: dict[str, Any] = {"__init__": __init__, "__eq__": __eq__, "__hash__": __hash__}
    for name in names:
        methods[name].__qualname__ = f"{cls.__qualname__}.{name}"
    return {name: methods[name] for name in names}


def _initialised(
    cls: Any, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], assign: Callable[[Any, str, Any], None]
) -> bool:
    """Initialise an object of a class; do nothing and return False if the arguments are not those of its fields."""
    given = dict(zip(cls.__match_args__, args, strict=False)) | kwargs
    if len(given) != len(args) + len(kwargs) or not given.keys() <= set(cls.__match_args__):
        return False
    fields = getattr(cls, _FIELDS).values()
    if any(one.default is one.default_factory and one.init and one.name not in given for one in fields):
        return False
    for one in fields:
        if one.name in given:
            assign(self, one.name, given[one.name])
        elif one.default_factory is not _MISSING:
            assign(self, one.name, one.default_factory())
        elif one.init:
            assign(self, one.name, one.default)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()
    return True


def _generated(cls: type, *, frozen: bool) -> dict[str, Any]:
    fields = getattr(cls, _FIELDS).values()
    given: dict[str, Any] = {"_set": _set, "_MISSING": _MISSING}
    head, body = ["self"], []
    for one in fields:
        name, value = one.name, one.name
        if one.default_factory is not _MISSING:
            given[f"_of_{name}"] = one.default_factory
            value = f"_of_{name}() if {name} is _MISSING else {name}" if one.init else f"_of_{name}()"
        elif one.default is not _MISSING:
            given[f"_of_{name}"] = one.default
        if one.init:
            factory = one.default_factory is not _MISSING
            head.append(f"{name}=_MISSING" if factory else f"{name}=_of_{name}" if f"_of_{name}" in given else name)
        elif one.default_factory is _MISSING:
            continue  # __post_init__ sets it, or the attribute of the class is the default
        body.append(f"  _set(self, {name!r}, {value})" if frozen else f"  self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("  self.__post_init__()")
    one, other = (f"({''.join(f'{of}.{it.name}, ' for it in fields if it.compare)})" for of in ("self", "other"))
    lines = [
        f"def __init__({', '.join(head)}):",
        *(body or ["  pass"]),
        "def __eq__(self, other):",
        f"  return {one} == {other} if other.__class__ is self.__class__ else NotImplemented",
        f"def __hash__(self): return hash({one})",
    ]
    exec("\n".join(lines), given)  # noqa: S102 - fields have the names of attributes
    return given


def _names(record: object, purpose: str) -> list[str]:
    return [one.name for one in getattr(type(record), _FIELDS).values() if getattr(one, purpose)]


def _value(record: object) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _names(record, "compare"))


# The following ones serve objects that were copied before any was made by __init__, or called seldom.


def _eq(self: object, other: object) -> bool:
    return _value(self) == _value(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: object) -> int:
    return hash(_value(self))


def _repr(self: object) -> str:
    values = (f"{name}={getattr(self, name)!r}" for name in _names(self, "repr"))
    return f"{type(self).__qualname__}({', '.join(values)})"


def _refuse_to_set(self: object, name: str, value: object) -> None:
    del self, value
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    del self
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: object) -> list[Any]:
    return [getattr(self, name) for name in getattr(type(self), _FIELDS)]


def _restore(self: object, state: list[Any]) -> None:
    for name, value in zip(getattr(type(self), _FIELDS), state, strict=True):
        _set(self, name, value)


def _replace(record: Any, /, **changes: Any) -> Any:
    """Return a copy of a record with other values, as ``dataclasses.replace`` does."""
    if _FIELDS not in vars(type(record)):  # a class of dataclasses, or undecorated
        import dataclasses

        return dataclasses.replace(record, **changes)
    for name in type(record).__match_args__:
        if name not in changes:
            changes[name] = getattr(record, name)
    return type(record)(**changes)


class _TupleType(type):
    """Makes a named tuple of each class that is derived from another one."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, namespace)
        from collections import namedtuple

        names = namespace.get("__annotations__", {})
        defaults = [namespace[one] for one in names if one in namespace]
        made = namedtuple(name, names, defaults=defaults, module=namespace["__module__"])  # type: ignore[misc] # noqa: PYI024 - as typing does
        for attribute, value in namespace.items():
            if attribute not in names:
                setattr(made, attribute, value)
        return made


class _NamedTuple(metaclass=_TupleType):
    pass


if not TYPE_CHECKING:
    dataclass, field, replace, NamedTuple = _dataclass, Field, _replace, _NamedTuple
