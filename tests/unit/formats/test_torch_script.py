"""TorchScript: archives of torch_zip with compressed code, and with tensors of the code and of a trace."""

import io
import warnings
import zipfile

import pytest
import torch

from git_theta_ext.errors import FormatError
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.torch_zip import FORMAT

EXAMPLE = torch.arange(8.0).reshape(2, 4)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()


def written(make):
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(make(), target)
    return target.getvalue()


SCRIPTED = written(lambda: torch.jit.script(model()))
FROZEN = written(lambda: torch.jit.freeze(torch.jit.script(model())))
TRACED = written(lambda: torch.jit.trace(model(), EXAMPLE))


class TestTorchScript(FormatTests):
    format = FORMAT
    examples = {"scripted": SCRIPTED, "frozen": FROZEN, "traced": TRACED}  # noqa: RUF012 - as the suite asks


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


STATE = {
    "0.weight": "F32 [3,4]",
    "0.bias": "F32 [3]",
    "1.weight": "F32 [3]",
    "1.bias": "F32 [3]",
    "1.running_mean": "F32 [3]",
    "1.running_var": "F32 [3]",
    "1.num_batches_tracked": "I64 []",
}


def test_parameters_have_the_names_of_the_state_dict_and_constants_their_number():
    assert specs(SCRIPTED) == STATE == {**specs(TRACED)}
    assert specs(FROZEN) == {"constants.0": "F32 [3,4]", "constants.1": "F32 [3]"}


def load(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(io.BytesIO(data))


@pytest.mark.parametrize(("data", "name"), [(SCRIPTED, "0.bias"), (FROZEN, "constants.1")])
def test_other_values_give_a_model_that_computes_with_them(data, name):
    layout, tensors = lay_out(FORMAT, data)
    changed = assemble(layout, {**tensors, name: torch.ones(3).numpy().tobytes()})
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        assert archive.testzip() is None
    expected = model()
    with torch.no_grad():
        bias = torch.ones(3)
        if name.startswith("constants"):  # the batch norm is folded into them
            bias = bias * (1 + expected[1].eps) ** 0.5
        expected[0].bias.copy_(bias)
        assert torch.allclose(load(changed)(EXAMPLE), expected(EXAMPLE), atol=1e-5)


def test_facts_are_the_code_and_the_pickles_without_the_lines_that_the_code_is_from():
    facts = FORMAT.facts(lay_out(FORMAT, SCRIPTED)[0])
    assert sorted(name.rpartition("/")[2] for name in facts) == [
        "batchnorm.py",
        "constants.pkl",
        "container.py",
        "data.pkl",
        "functional.py",
        "linear.py",
    ]
    layout, tensors = lay_out(FORMAT, written(lambda: torch.jit.script(model())))
    assert FORMAT.facts(layout) == facts
    assert tensors == lay_out(FORMAT, SCRIPTED)[1]


def test_a_pickle_of_constants_whose_tensors_are_not_there_is_refused():
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FROZEN)) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if not info.filename.endswith("constants/1"):
                new.writestr(info.filename, old.read(info))
    with pytest.raises(FormatError, match=r"'constants\.1': the archive lacks"):
        FORMAT.parse(memoryview(target.getvalue()))
