import json

import pytest

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.distance import Distance
from git_theta_ext.comparison.group import _pattern, common_module, fold, printable
from git_theta_ext.comparison.schema import SCHEMA, to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.text import MOST_LINES, render
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import Conflict
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec

ROLES = ["attention.query", "attention.key", "attention.value", "attention.out", "mlp.up", "mlp.down", "norm"]


def parameter(number, kind="F32", shape=(4, 4)):
    return Parameter(TensorSpec.of(kind, shape), Digest(f"{number:064x}"))


def manifest(parameters, kind="safetensors", skeleton=0, conflicts=()):
    return Manifest(kind, Skeleton(Digest(f"{skeleton:064x}"), 9), parameters, None, conflicts)


def model(seed, layers=24, towers=("model",)):
    names = [
        f"{t}.layers.{n}.{r}.{w}" for t in towers for n in range(layers) for r in ROLES for w in ("weight", "bias")
    ]
    return manifest({name: parameter(seed * 10_000 + number) for number, name in enumerate(names)})


def lines(old, new, distances=None, screen=None, notes=()):
    return render(change(old, new, distances or {}, notes), screen or Screen()).splitlines()


def change(old, new, distances=None, notes=()):
    return ModelChange("m.safetensors", compare(old, new), distances or {}, notes=notes)


def test_a_full_fine_tune_of_hundreds_of_parameters_fits_a_screen():
    old, new = model(1), model(2)
    assert len(old.parameters) == 336
    distances = {name: Distance(16, 16, 1e-3 * (1 + n % 5), 1.0, 1.0, 0.1) for n, name in enumerate(new.parameters)}
    found = lines(old, new, distances)
    assert len(found) == 2 + 2 * len(ROLES)
    assert "336 modified" in found[1]
    row = next(line for line in found if "attention.query.weight" in line)
    assert "model.layers.{0-23}.attention.query.weight" in row
    assert "F32 [4,4]" in row
    assert "24 modified" in row
    assert "rel. change 1.0e-03 … 5.0e-03" in row


@pytest.mark.parametrize(
    ("changed", "unchanged", "module"),
    [
        (["h.4.q", "h.4.k", "h.5.q"], ["h.0.q", "e"], "h.{4-5}"),
        (["h.4.mlp.up", "h.5.mlp.down"], ["h.4.attn.q"], "h.{4-5}.mlp"),
        (["h.4.q", "h.5.q"], ["h.4.k"], ""),
        (["h.0.q", "h.1.q"], [], ""),
        (["head.w", "head.b"], ["h.0.q"], "head"),
        (["head.w", "h.0.q"], ["h.1.q"], ""),
        (["h.4.q"], ["h.0.q"], ""),
        (["a.1.b.2.w", "a.1.b.3.w"], ["a.0.b.2.w"], "a.1.b.{2-3}"),
    ],
)
def test_the_module_that_holds_all_changes_is_named(changed, unchanged, module):
    assert common_module(changed, unchanged) == module


def test_a_fine_tune_of_the_last_layers_is_seen_at_once():
    old = model(1, 6)
    new = {name: parameter(n + 90_000) for n, name in enumerate(old.parameters) if name.split(".")[2] in "45"}
    found = lines(old, manifest({**old.parameters, **new}))
    assert found[1] == "28 modified, 56 unchanged; 1.79 kB of 5.38 kB differ, all in model.layers.{4-5}"


def test_more_kinds_than_lines_are_folded_further():
    towers = tuple(f"tower_{letter}" for letter in "abcdefgh")
    found = lines(model(1, 2, towers), model(2, 2, towers))
    assert len(found) <= MOST_LINES
    assert any("tower_c.layers.{0-1}" in line and "**" in line for line in found)


def test_even_thousands_of_unlike_names_stay_within_the_limit():
    old = manifest({f"p{'x' * (n % 50)}{n:x}z": parameter(n) for n in range(2000)})
    new = manifest({name: parameter(n + 5000) for n, name in enumerate(old.parameters)})
    found = lines(old, new)
    assert len(found) <= MOST_LINES
    assert "2000 modified" in found[-1]


def test_changed_types_and_shapes_show_both():
    old = manifest({"a": parameter(1), "b": parameter(2)})
    new = manifest({"a": parameter(3, "BF16"), "b": parameter(4, shape=(5, 4))})
    found = lines(old, new)
    assert "F32 -> BF16 [4,4]" in found[2]
    assert "F32 [4,4] -> F32 [5,4]" in found[3]


def test_added_removed_and_renamed_are_marked():
    found = lines(
        manifest({"gone": parameter(1), "old": parameter(2)}), manifest({"new": parameter(3), "now": parameter(2)})
    )
    assert [line[0] for line in found[2:]] == ["-", "+", ">"]
    assert "renamed from old" in found[-1]


def test_partial_changes_tell_the_share_of_elements():
    found = lines(manifest({"w": parameter(1)}), manifest({"w": parameter(2)}), {"w": Distance(1000, 3, 0.5, 1.0, 1.0)})
    assert "0.3 % of elements" in found[-1]


def test_nan_values_are_reported():
    distances = {"w": Distance(16, 16, float("nan"), 1.0, float("nan"), float("nan"), nan_new=3)}
    found = lines(manifest({"w": parameter(1)}), manifest({"w": parameter(2)}), distances)
    assert "rel. change nan" in found[-1]
    assert "3 NaN" in found[-1]


def test_opaque_files_tell_chunks_and_bytes():
    old = manifest({f"chunk/{n:06d}": parameter(n, "U8", (1000,)) for n in range(4)}, "opaque")
    new = manifest({f"chunk/{n:06d}": parameter(n + (n > 2) * 50, "U8", (1000,)) for n in range(4)}, "opaque")
    assert lines(old, new)[1:] == ["1 of 4 chunks, 1 kB of 4 kB differ; its parameters are unknown"]


def test_new_and_deleted_files_say_so():
    assert lines(None, model(1))[1].startswith("new file (safetensors): 336 parameters")
    assert lines(model(1), None)[1].startswith("deleted file (safetensors): 336 parameters")


def test_a_change_of_metadata_alone_is_shown():
    assert "order or metadata" in lines(model(1), manifest(model(1).parameters, skeleton=3))[-1]


def test_conflicts_are_listed_within_the_limit():
    conflicts = tuple(Conflict(f"w{n}", Reason("changed by both"), None, (None, None)) for n in range(50))
    found = lines(model(1), manifest(model(2).parameters, conflicts=conflicts))
    assert len(found) <= MOST_LINES
    assert "! w0: changed by both" in found
    assert "43 more" in found[-1]
    assert any("git theta resolve" in line for line in found)


def test_narrow_terminals_shorten_names():
    found = lines(model(1), model(2), screen=Screen(56))
    assert all(len(line) <= 56 for line in found[2:])
    assert "…" in found[2]


def test_narrow_terminals_show_how_many_parameters_a_line_is_about():
    names = [f"model.encoder.blocks.{number}.output.dense.weight" for number in range(2)]
    old, new = (manifest({name: parameter(seed) for name in names}) for seed in (1, 2))
    for width, shown in ((0, "  F32 [4,4]  2 modified"), (40, "  F32 [4,4]  x2")):
        assert lines(old, new, screen=Screen(width))[2].endswith(shown)


def test_short_names_keep_the_ends_by_which_they_differ():
    names = [f"model.encoder.blocks.{part}.output.dense.weight" for part in ("attention", "feed_forward")]
    found = lines(*(manifest({name: parameter(seed) for name in names}) for seed in (1, 2)), screen=Screen(40))
    assert [line.split("  ")[0] for line in found[2:]] == ["~ …ion.output.dense.weight", "~ …ard.output.dense.weight"]
    assert "modified" not in "".join(found[2:])  # as the sign says


def test_colour_is_only_where_asked_for():
    old, new = manifest({"gone": parameter(1)}), manifest({"new": parameter(3)})
    assert "\x1b" not in "".join(lines(old, new))
    found = lines(old, new, screen=Screen(colour=True))
    assert found[2].startswith("\x1b[31m- gone")
    assert found[3].startswith("\x1b[32m+ new")


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "", " a", "\u202eabc", "\ud800"])
def test_names_cannot_command_the_terminal(name):
    assert printable(name).isprintable()
    assert printable(name).startswith('"')


def test_names_in_any_script_stay_as_they_are():
    assert printable("层.0.重み") == "层.0.重み"


def test_scattered_numbers_are_reported_as_ranges():
    old = manifest({f"h.{n}.w": parameter(n) for n in (0, 1, 2, 5, 11)})
    new = manifest({name: parameter(n + 100) for n, name in enumerate(old.parameters)})
    (row,) = fold(change(old, new).changes, 5)
    assert row.label == "h.{0-2,5,11}.w"


def test_json_tells_everything_and_is_valid_json():
    conflict = Conflict("w", Reason("changed by both"), None, (parameter(1), parameter(2)))
    old = manifest({"w": parameter(1), "old": parameter(7), "gone": parameter(8)})
    new = manifest({"w": parameter(2), "now": parameter(7), "new": parameter(9)}, conflicts=(conflict,))
    distances = {"w": Distance(16, 3, float("inf"), 1.0, float("inf"), float("nan"), nan_new=1)}
    found = json.loads(json.dumps(to_json(change(old, new, distances)), allow_nan=False))
    assert found["schema"] == SCHEMA
    rows = {row["name"]: row for row in found["parameters"]}
    assert {name: row["change"] for name, row in rows.items()} == {
        "w": "modified",
        "now": "renamed",
        "new": "added",
        "gone": "removed",
    }
    assert rows["w"]["stats"] == {
        "elements": 16,
        "changed": 3,
        "share": 0.1875,
        "relative": "inf",
        "cosine": None,
        "largest": "nan",
        "flips": 0,
        "norm": "inf",
        "norm_old": 1.0,
        "norm_new": "inf",
        "rank": None,
        "rank_exact": None,
        "nonfinite_old": 0,
        "nonfinite_new": 1,
        "nan_old": 0,
        "nan_new": 1,
        "infinite_old": 0,
        "infinite_new": 0,
    }
    assert (rows["w"]["reshaped"], rows["w"]["recast"]) == (False, False)
    assert [group["name"] for group in found["groups"]] == ["gone", "new", "now", "w"]
    assert rows["now"]["old_name"] == "old"
    assert rows["new"]["new"] == {"dtype": "F32", "shape": [4, 4], "digest": parameter(9).digest}
    assert found["conflicts"]["parameters"][0]["theirs"]["digest"] == parameter(2).digest


GPTQ = {
    "qweight": ("I32", (16, 256)),
    "qzeros": ("I32", (1, 32)),
    "scales": ("F16", (1, 256)),
    "g_idx": ("I32", (128,)),
}
HQQ = {"W_q": ("U8", (256, 64)), "scale": ("F16", (512, 1))}


def quantised(seed, layers, parts=GPTQ):
    return {
        f"layers.{layer}.up_proj.{name}": parameter(seed * 100 + layer * 10 + number, *spec)
        for layer in layers
        for number, (name, spec) in enumerate(parts.items())
    }


def test_the_parts_of_a_quantised_weight_share_a_row():
    norm = {"norm.weight": parameter(1)}
    old = manifest(quantised(1, range(4)) | norm)
    one_part = {"layers.2.up_proj.scales": parameter(999, "F16", (1, 256))}
    new = manifest(quantised(2, range(2)) | quantised(1, [2]) | one_part | quantised(3, [3], HQQ) | norm)
    assert lines(old, new)[2:] == [
        "~ layers.3.up_proj      gptq, 4 bits -> hqq, U8  modified",
        "~ layers.{0-2}.up_proj  gptq, 4 bits             3 modified",
    ]
    units = to_json(change(old, new))["units"]
    assert [unit["name"] for unit in units] == [f"layers.{layer}.up_proj" for layer in range(4)]
    assert units[2]["parameters"] == [f"layers.2.up_proj.{part}" for part in sorted(GPTQ)]


def lora(seed, layer, rank):
    shapes = {"lora_A": (rank, 8), "lora_B": (6, rank)}
    parameters = {name: parameter(seed + number, "F32", shape) for number, (name, shape) in enumerate(shapes.items())}
    return {f"layers.{layer}.q.{name}.weight": value for name, value in parameters.items()}


def test_both_factors_of_a_lora_share_a_row_with_its_rank():
    old = manifest(lora(1, 0, 4) | lora(1, 1, 4) | lora(1, 2, 4) | lora(1, 4, 4))
    new = manifest(lora(100, 0, 4) | lora(100, 1, 4) | lora(100, 2, 8) | lora(100, 3, 8) | lora(1, 4, 4))
    near = Distance(8, 8, 0.25, 1.0, 1.0)
    shown = lines(old, new, {"layers.0.q.lora_B.weight": near})
    assert shown[2:] == [
        "+ layers.3.q      LoRA, rank 8            added",
        "~ layers.2.q      LoRA, rank 4 -> rank 8  modified",
        "~ layers.{0-1}.q  LoRA, rank 4            2 modified  rel. change 2.5e-01",
    ]
    assert [unit["kind"] for unit in to_json(change(old, new))["units"]] == ["LoRA"] * 4
    assert lines(manifest(lora(1, 0, 4)), manifest(lora(1, 7, 4)))[2:] == [
        "> layers.7.q  LoRA, rank 4  renamed from layers.0.q"
    ]


def test_a_quantised_weight_of_a_renamed_module_has_one_old_name():
    old, new = quantised(1, [0]), {name.replace("up_proj", "gate"): p for name, p in quantised(1, [0]).items()}
    assert lines(manifest(old), manifest(new))[2:] == ["> layers.0.gate  gptq, 4 bits  renamed from layers.0.up_proj"]


def test_a_quantised_weight_in_conflict_is_one_line():
    reason = Reason("unit: part of a quantised weight that ours and theirs changed (gptq, 4 bits)")
    values = quantised(1, range(2))
    other = Digest("7" * 64)
    conflicts = tuple(Conflict(n, reason, p, (p, Parameter(p.spec, other))) for n, p in sorted(values.items()))
    shown = lines(None, manifest(values, conflicts=conflicts))
    assert [line for line in shown if line.startswith("! ")] == [
        f"! layers.{layer}.up_proj (gptq, 4 bits): {reason.text}" for layer in range(2)
    ]


def test_names_of_a_model_of_100_000_parameters_are_split_once() -> None:
    assert (_pattern.cache_info().maxsize or 0) > 100_000
