"""LoRAs are extracted from differences: the nearest of a rank, in the layout that PEFT reads."""

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.lora_factors import Layout, adapter_config, extract, is_weight

PLAIN, GPT2 = Layout(transposed=False), Layout(transposed=True)


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def product(lora):
    return lora.b.astype(float) @ lora.a.astype(float)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (6, 6), (1, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_the_update_is_the_nearest_of_its_rank(shape, size):
    difference = drawn(shape) * size
    u, s, vt = np.linalg.svd(difference, full_matrices=False)
    for rank in range(1, min(shape) + 1):
        lora = extract("l.weight", difference, PLAIN, rank, 1.0)
        assert (lora.b.shape, lora.a.shape) == ((shape[0], rank), (rank, shape[1]))
        np.testing.assert_allclose(product(lora), (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-6 * s[0])
        assert lora.energy == pytest.approx(float((difference**2).sum()))
        assert lora.kept == pytest.approx(float((s[:rank] ** 2).sum()))


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)], ids=str)
def test_a_difference_of_low_rank_takes_no_more_than_its_rank(shape):
    lora = extract("l.weight", drawn((shape[0], 3)) @ drawn((3, shape[1]), 1), PLAIN, 16, 1.0)
    assert lora.rank == 3
    assert lora.kept == pytest.approx(lora.energy, rel=1e-12)


def test_the_smallest_rank_that_keeps_the_energy_is_taken():
    difference = np.diag([4.0, 3.0, 2.0, 1.0])  # energies 16, 9, 4, 1 of 30
    ranks = [extract("l.weight", difference, PLAIN, 4, share).rank for share in (0.5, 16 / 30, 0.6, 29 / 30, 0.99, 1.0)]
    assert ranks == [1, 1, 2, 3, 4, 4]
    assert extract("l.weight", difference, PLAIN, 2, 1.0).rank == 2


def test_embeddings_have_the_factors_of_the_transpose():
    difference = drawn((9, 4))
    lora = extract("model.embed_tokens.weight", difference, PLAIN, 4, 1.0)
    np.testing.assert_allclose(product(lora).T, difference, atol=1e-6)
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    assert {name: tensor.shape for name, tensor in lora.tensors.items()} == {f"{prefix}A": (4, 9), f"{prefix}B": (4, 4)}


def test_linear_layers_of_gpt2_have_the_factors_of_the_transpose():
    shapes = {"h.0.attn.c_attn.weight": (4, 12), "h.0.mlp.c_proj.weight": (16, 4), "h.0.ln_1.weight": (4,)}
    specs = {name: TensorSpec.of("F32", shape) for name, shape in shapes.items()}
    assert Layout.of(specs) == GPT2
    turned = {name: TensorSpec.of("F32", shape[::-1]) for name, shape in shapes.items()}
    assert Layout.of(turned) == Layout.of({}) == PLAIN
    difference = drawn((4, 12))
    np.testing.assert_allclose(
        product(extract("h.0.attn.c_attn.weight", difference, GPT2, 4, 1.0)).T, difference, atol=1e-6
    )
    np.testing.assert_allclose(product(extract("lm_head.weight", difference, GPT2, 4, 1.0)), difference, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", True),
        ("embeddings.word_embeddings.weight", True),
        ("wte.weight", True),
        ("shared.weight", True),
        ("embed_out.weight", False),
        ("q_proj.weight", False),
        ("shared_expert.up.weight", False),
    ],
)
def test_embeddings_are_known_by_their_names(name, expected):
    assert PLAIN.is_embedding(name) is expected


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("l.weight", (3, 4), True), ("l.bias", (3, 4), False), ("l.weight", (3,), False), ("l.weight", (0, 4), False)],
)
def test_only_matrices_of_modules_are_adapted(name, shape, expected):
    assert is_weight(name, TensorSpec.of("F32", shape)) is expected


def test_ranks_that_differ_are_in_the_configuration():
    loras = [extract(f"{name}.weight", drawn((8, 8), rank), PLAIN, rank, 1.0) for name, rank in (("a", 3), ("b.c", 5))]
    config = adapter_config(loras, PLAIN)
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (5, 5, ["a", "b.c"])
    assert config["rank_pattern"] == config["alpha_pattern"] == {"a": 3}


def test_no_difference_needs_no_factors():
    assert extract("l.weight", np.zeros((3, 4)), PLAIN, 4, 1.0) is None


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(FormatError, match=r"'l\.weight' has NaN"):
        extract("l.weight", np.array([[np.inf, 0.0]]), PLAIN, 4, 1.0)
