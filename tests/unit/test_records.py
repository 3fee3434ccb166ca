"""Records behave as the classes of dataclasses do, for their users and for dataclasses itself."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

from git_theta_ext import records


def made(module, **options):
    """Return the same classes, made by ``records`` or by ``dataclasses``."""

    @module.dataclass(**options)
    class Base:
        """A base."""

        one: int
        two: str = "two"
        many: list[int] = module.field(default_factory=list, compare=False)
        size: int = module.field(init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "size", self.one * 2)

    @module.dataclass(**options)
    class Derived(Base):
        three: tuple[int, ...] = ()

        def __repr__(self) -> str:
            return f"<{self.three}>"

    return Base, Derived


FORMS = [{}, {"frozen": True}, {"frozen": True, "slots": True}, {"slots": True}, {"frozen": True, "eq": False}]


def outcome(work):
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - compared
        return type(error)


@pytest.mark.parametrize("earlier", [0, 100])
@pytest.mark.parametrize("options", FORMS, ids=str)
def test_records_do_what_dataclasses_do(options, earlier):
    results = []
    for module in (records, dataclasses):
        base, derived = made(module, **options)
        for number in range(earlier):
            base(number), derived(number)
        some = [base(1), base(one=1, two="2"), base(1, "two", [1]), derived(1), derived(1, "two", [], (3,))]

        def changed(record, name="one"):
            setattr(record, name, 5)
            return record

        results.append(
            [
                [repr(record).replace("<locals>.", "") for record in some],
                [[one == other for other in some] for one in some],
                [outcome(lambda record=record: len({record, copy.copy(record)})) for record in some],
                [record.size for record in some],
                [module.replace(record, one=7).size for record in some],
                outcome(lambda base=base: base()),
                outcome(lambda base=base: base(1, unknown=2)),
                outcome(lambda base=base: base(1, size=2)),
                outcome(lambda some=some, changed=changed: repr(changed(some[0]))),
                # Python 3.11 raises a TypeError for a frozen class with slots.
                options.get("slots") or outcome(lambda some=some, changed=changed: changed(some[0], "other").other),
                outcome(lambda some=some: delattr(some[0], "one")),
                [hasattr(record, "__dict__") for record in some],
                base.__match_args__,
                derived.__match_args__,
                [copy.copy(record).size for record in some],
                base.__doc__,
                base.__init__.__qualname__,
            ]
        )
    assert results[0] == results[1]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_dataclasses_accepts_records(options):
    base, derived = made(records, **options)
    assert dataclasses.is_dataclass(derived)
    assert [field.name for field in dataclasses.fields(derived)] == ["one", "two", "many", "size", "three"]
    assert dataclasses.asdict(derived(1)) == {"one": 1, "two": "two", "many": [], "size": 2, "three": ()}
    assert dataclasses.replace(derived(1), one=3).size == 6

    @dataclasses.dataclass(frozen=options.get("frozen", False))
    class OfAnother(base):
        four: int = 4

    assert OfAnother(1, four=5).four == 5
    assert records.replace(OfAnother(1), four=6) == OfAnother(1, four=6)


def test_methods_are_generated_for_classes_with_many_records_or_comparisons():
    generated = [set(), set(), set()]
    for number, use in enumerate((lambda one: type(one)(1), lambda one: one == one, hash)):  # noqa: PLR0124 - counted
        base, _ = made(records, frozen=True)
        one = base(1)
        for _ in range(100):
            use(one)
        generated[number] = {name for name in ("__init__", "__eq__", "__hash__") if not vars(base)[name].__closure__}
    assert generated == [{"__init__", "__eq__", "__hash__"}] * 3


def test_few_records_compile_nothing(monkeypatch):
    base, derived = made(records, frozen=True)
    monkeypatch.setattr(records, "_generated", None)
    assert base(1) == base(one=1)
    assert {derived(1), derived(1)} == {derived(1, "two", [], ())}


def test_a_factory_makes_a_value_for_each_record():
    base, _ = made(records, frozen=True)
    one, other = base(1), base(2)
    one.many.append(1)
    assert other.many == []


@records.dataclass(frozen=True, slots=True)
class Copied:
    """A record of a module, so that it can be pickled."""

    value: int
    note: str = records.field(default="", compare=False)


def test_a_record_is_the_same_after_pickling_even_if_none_was_made_before():
    data = pickle.dumps(Copied(1, "n"))
    code = f"import pickle; one, other = pickle.loads({data!r}), pickle.loads({data!r})\n"
    code += "print(one == other, hash(one) == hash(other), one)"
    path = [*sys.path, *__import__(__name__, fromlist=["__path__"]).__spec__.origin.rsplit("/", 1)[:1]]
    code = f"import sys; sys.path[:] = {path!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True Copied(value=1, note='n')\n"


def test_what_records_cannot_do_is_refused():
    with pytest.raises(TypeError, match="ClassVar"):

        @records.dataclass
        class Counted:
            count: ClassVar[int] = 0  # noqa: F821 - a string

    @dataclasses.dataclass
    class Base:
        one: int

    with pytest.raises(TypeError, match="derived from a class of dataclasses"):

        @records.dataclass
        class Derived(Base):
            two: int


class Pair(records.NamedTuple):
    """A pair."""

    one: int
    other: NoSuchType = "other"  # noqa: F821 - annotations are not evaluated

    @property
    def both(self):
        """Both of them."""
        return f"{self.one} {self.other}"


def test_named_tuples_are_tuples_with_names_defaults_and_methods():
    one = Pair(1)
    assert (one, one.both, one._replace(one=2), Pair.__doc__) == ((1, "other"), "1 other", (2, "other"), "A pair.")
    assert repr(one) == "Pair(one=1, other='other')"
    assert not hasattr(one, "__dict__")
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == one
    assert type(pickle.loads(pickle.dumps(one))) is Pair
    with pytest.raises(TypeError):
        Pair()


def test_records_compile_no_annotations(monkeypatch):
    monkeypatch.setattr("builtins.compile", None)

    class Alone(records.NamedTuple):
        one: int

    assert Alone(1) == (1,)


def test_records_import_nothing():
    code = "import sys; before = {*sys.modules}; import git_theta_ext.records; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "git_theta_ext", "git_theta_ext.version", "git_theta_ext.records"}
