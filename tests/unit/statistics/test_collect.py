"""Statistics are what their definitions say, and collecting them leaves no trace in the model."""

import pytest
import torch
from torch import nn

from git_theta_ext.errors import UsageError
from git_theta_ext.statistics.collect import collect

ALL = ("fisher", "gram", "grad_gram")


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs=3, outputs=2, bias=True):
    made = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=90 + number))
    return made


def squared(module, example):
    """Return half the square of the outputs, of which they themselves are the gradient."""
    return module(example).square().sum() / 2


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_fisher_is_the_mean_of_the_squared_gradients_of_single_examples():
    model, rows = linear(), numbers(6, 3)
    found = collect(model, rows, squared, ("fisher",))
    outputs = (rows @ model.weight.T + model.bias).detach()
    assert list(found) == ["fisher/weight", "fisher/bias"]
    near(found["fisher/weight"], (outputs[:, :, None] * rows[:, None, :]).square().mean(0))
    near(found["fisher/bias"], outputs.square().mean(0))


def test_fisher_of_examples_together_is_that_of_their_loss():
    model, rows = linear(bias=False), numbers(6, 3)
    together = collect(model, [rows], lambda module, batch: squared(module, batch) / 6, ("fisher",))
    outputs = (rows @ model.weight.T).detach()
    near(together["fisher/weight"], (outputs.T @ rows / 6).square())
    single = collect(model, rows, squared, ("fisher",))
    assert float(together["fisher/weight"].sum()) < float(single["fisher/weight"].sum())


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_gram_is_the_mean_over_rows_however_they_come(parts):
    model, rows = linear(), numbers(12, 3)
    found = collect(model, rows.reshape(parts, 2, -1, 3), lambda module, batch: module(batch), ("gram",))
    assert list(found) == ["gram/weight"]
    near(found["gram/weight"], rows.T @ rows / 12)


def test_grad_gram_is_the_mean_over_the_gradients_of_the_outputs():
    model, rows = linear(), numbers(12, 3)
    found = collect(model, rows.reshape(4, 3, 3), squared, ("grad_gram",))
    outputs = (rows @ model.weight.T + model.bias).detach()
    near(found["grad_gram/weight"], outputs.T @ outputs / 12)


def test_kinds_come_together_with_the_same_values_as_alone():
    model, rows = nn.Sequential(linear(), nn.Tanh(), linear(2, 4)), numbers(5, 3)
    together = collect(model, rows, squared, ALL)
    assert len(together) == 4 + 2 + 2
    for kind in ALL:
        for name, found in collect(model, rows, squared, (kind,)).items():
            near(found, together[name])


def test_every_statistic_is_float32_whatever_the_model_is():
    model, rows = linear().bfloat16(), numbers(5, 3).bfloat16()
    found = collect(model, rows, lambda module, row: squared(module, row).float(), ALL)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    near(found["gram/weight"], rows.float().T @ rows.float() / 5)


def test_autocast_does_not_reach_the_statistics():
    model, rows = linear(), numbers(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = collect(model, rows, squared, ("gram",))
    near(found["gram/weight"], rows.T @ rows / 5)


class Tied(nn.Module):
    """An embedding whose weight also makes the outputs, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 3, sparse=True)
        self.twice = linear(3, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.idle = linear()
        self.head.weight = self.embed.weight

    def forward(self, token):
        return self.head(input=self.twice(self.twice(self.embed(token))))


class TestUnusualModels:
    def test_a_parameter_of_two_names_has_its_statistics_under_both(self):
        found = collect(Tied(), torch.arange(4), squared, ALL)
        for kind in ("fisher", "gram", "grad_gram"):
            assert found[f"{kind}/head.weight"] is found[f"{kind}/embed.weight"]

    def test_all_uses_of_a_layer_count(self):
        model = Tied()
        found = collect(model, torch.arange(4), squared, ("gram",))
        first = model.embed.weight.detach()
        inputs = torch.cat([first, model.twice(first).detach()])
        near(found["gram/twice.weight"], inputs.T @ inputs / 8)

    def test_a_layer_that_no_example_reached_has_zeros_for_fisher_and_nothing_else(self):
        found = collect(Tied(), torch.arange(4), squared, ALL)
        assert float(found["fisher/idle.weight"].abs().max()) == 0
        assert "gram/idle.weight" not in found
        assert "grad_gram/idle.weight" not in found

    def test_a_frozen_parameter_has_no_fisher(self):
        model = nn.Sequential(linear(), linear(2, 2))
        model[0].requires_grad_(requires_grad=False)
        found = collect(model, numbers(5, 3), squared, ALL)
        assert {name for name in found if name.startswith("fisher")} == {"fisher/1.weight", "fisher/1.bias"}
        assert {"gram/0.weight", "gram/1.weight", "grad_gram/1.weight"} <= set(found)

    def test_gram_asks_for_no_gradient_and_no_loss(self):
        model = linear().requires_grad_(requires_grad=False)

        def run(module, row):
            assert not torch.is_grad_enabled()
            module(row)

        assert list(collect(model, numbers(5, 3), run, ("gram",))) == ["gram/weight"]

    def test_sparse_gradients_count_like_others(self):
        model = nn.Embedding(4, 3, sparse=True)
        found = collect(model, torch.tensor([[1, 1], [2, 1]]), squared, ("fisher",))["fisher/weight"]
        rows = model.weight.detach()
        near(found[1], ((2 * rows[1]).square() + rows[1].square()) / 2)
        assert float(found[3].abs().max()) == 0

    def test_weights_that_are_computed_from_others_are_left_to_the_mean(self):
        model = nn.utils.parametrizations.weight_norm(linear())
        found = collect(model, numbers(5, 3), squared, ALL)
        assert {name.partition("/")[0] for name in found} == {"fisher"}


class TestModelStaysAsItIs:
    def test_after_collecting(self):
        model, rows = nn.Sequential(linear(), nn.Dropout(), linear(2, 2)).eval(), numbers(5, 3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model[0].weight.grad = torch.ones(2, 3)
        collect(model, rows, squared, ALL)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert [p.grad is None for p in model.parameters()] == [False, True, True, True]
        assert torch.equal(model[0].weight.grad, torch.ones(2, 3))
        assert not any(module.training or module._forward_hooks for module in model.modules())

    def test_after_a_loss_that_fails(self):
        model = linear()

        def fail(module, row):
            module(row)
            raise KeyError

        with pytest.raises(KeyError):
            collect(model, numbers(5, 3), fail, ALL)
        assert not model._forward_hooks


class TestRefused:
    def test_unknown_kind(self):
        with pytest.raises(UsageError, match="'hessian'"):
            collect(linear(), numbers(5, 3), squared, ("fisher", "hessian"))

    @pytest.mark.parametrize("kinds", [("fisher",), ("gram",)], ids=str)
    def test_no_examples(self, kinds):
        with pytest.raises(UsageError, match="no example"):
            collect(linear(), [], squared, kinds)

    def test_a_loss_for_each_of_several_examples(self):
        with pytest.raises(UsageError, match=r"example 1 is of shape \[5, 2\]"):
            collect(linear(), [numbers(5, 3)], lambda module, rows: module(rows), ("fisher",))

    def test_a_loss_that_depends_on_nothing(self):
        with pytest.raises(UsageError, match="example 1 depends on no parameter"):
            collect(linear(), numbers(5, 3), lambda module, row: squared(module, row).detach(), ("fisher",))

    @pytest.mark.parametrize("kinds", [("fisher",), ("grad_gram",)], ids=str)
    def test_a_model_that_is_frozen(self, kinds):
        with pytest.raises(UsageError, match="requires a gradient"):
            collect(linear().requires_grad_(requires_grad=False), numbers(5, 3), squared, kinds)
