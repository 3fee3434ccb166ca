"""The user's function is found as Python finds what it runs, and what it returns is checked."""

import statistics  # noqa: F401 - whose name a file of the user has; it counts once it is loaded
import sys

import pytest
import torch
from torch import nn

from git_theta_ext.errors import UsageError
from git_theta_ext.statistics.provider import checked, find, importing_from

CODE = """
import helper_of_probe
class Holder:
    @staticmethod
    def made(): return "nested"
def made(): return helper_of_probe.VALUE
value = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module ``probe`` and another that it imports."""
    (tmp_path / "probe.py").write_text(CODE)
    (tmp_path / "helper_of_probe.py").write_text("VALUE = 'made'")
    (tmp_path / "statistics.py").write_text("raise SystemExit")
    (tmp_path / "broken_probe.py").write_text("import no_such_module_anywhere")
    for name in ("probe", "helper_of_probe", "broken_probe"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize(("spec", "expected"), [("probe:made", "made"), ("probe:Holder.made", "nested")])
def test_a_function_is_found_with_what_its_module_imports(folder, spec, expected):
    before = list(sys.path)
    with importing_from(folder):
        assert find(spec, folder)() == expected
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "words", "hint"),
    [
        ("probe", "is not MODULE:FUNCTION", "train:statistics"),
        ("probe:", "is not MODULE:FUNCTION", "train:statistics"),
        ("../probe:made", "is not MODULE:FUNCTION", "train:statistics"),
        ("prob:made", "no module 'prob'", "cd to the directory"),
        ("probe.inner:made", "no module 'probe.inner'", "cd to the directory"),
        ("probe:maed", "probe has no 'maed'", "did you mean made?"),
        ("probe:value", "not a function but int", None),
        ("statistics:made", "is a module of Python", "rename your module"),
    ],
)
def test_mistakes_are_named(folder, spec, words, hint):
    with importing_from(folder), pytest.raises(UsageError, match=words) as caught:
        find(spec, folder)
    assert (hint or "") in (caught.value.hint or "")


def test_a_module_that_imports_what_is_not_there_fails_as_it_does(folder):
    with importing_from(folder), pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        find("broken_probe:made", folder)


MODEL = nn.Linear(2, 1)


@pytest.mark.parametrize("examples", [[1], torch.ones(3, 2), iter([]), torch.utils.data.TensorDataset(torch.ones(3))])
def test_anything_that_can_be_gone_through_holds_examples(examples):
    found = checked("a:b", (MODEL, examples, print))
    assert (found.module, found.loss) == (MODEL, print)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "not NoneType"),
        ((MODEL, [1]), "not tuple"),
        ([MODEL, [1], print], "not list"),
        ((MODEL.state_dict(), [1], print), "the first is not a torch.nn.Module but OrderedDict"),
        ((MODEL, 5, print), "the second is not iterable: int"),
        ((MODEL, [1], 0.5), "the third is not callable: float"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(returned, words):
    with pytest.raises(UsageError, match=words):
        checked("a:b", returned)
