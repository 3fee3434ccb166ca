"""What a file says besides its tensors is merged or in conflict, and never lost."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.layouts import with_facts_decided
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules, choice
from git_theta_ext.operations.merge.resolve import resolve
from git_theta_ext.testing.formats import assemble


def torch_file(value, folder="archive", **others):
    file = io.BytesIO()
    torch.save({"model": {"w": torch.full((3,), float(value)), "b": torch.zeros(2)}, **others}, file)
    return file.getvalue().replace(b"archive/", folder.encode() + b"/")


def npz_file(value, notes="none", year=2020):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        notes = np.zeros(0, [(notes, "<f4")])  # in the header, which is all that there is of it
        for name, data in (("w", np.full(3, value, np.float32)), ("notes", notes)):
            with made.open(zipfile.ZipInfo(f"{name}.npy", (year, 1, 1, 0, 0, 0)), "w") as member:
                np.lib.format.write_array(member, data)
    return file.getvalue()


def safetensors_file(value, **metadata):
    header = {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}
    text = json.dumps(({"__metadata__": metadata} if metadata else {}) | header).encode()
    return len(text).to_bytes(8, "little") + text + np.full(3, value, np.float32).tobytes()


def merged(bench, base, *sides, rules=None):
    """Merge files; also return the merged plan with all that is known of the layout."""
    base, *sides = (clean(memoryview(file), "m", bench.store).manifest for file in (base, *sides))
    asked = plan(base, sides, rules or Rules.only())
    for digest in {side.skeleton.digest for side in (base, *sides)} if asked.layouts_matter else ():
        assert digest in set(asked.reads())
    return apply(asked, bench.store), with_facts_decided(asked, bench.store).layout


def file_of(bench, manifest):
    tensors = {name: bench.store.read(p.digest, p.spec) for name, p in manifest.parameters.items()}
    return assemble(bench.layout(manifest), tensors)


def loaded(bench, manifest):
    found = torch.load(io.BytesIO(file_of(bench, manifest)), weights_only=False)
    return found.pop("model")["w"].tolist(), found


class TestTorch:
    def test_values_that_both_changed_in_the_pickle_are_a_conflict_that_a_side_resolves(self, bench):
        files = [torch_file(value, epoch=value, vocab={"a": 0}) for value in (0, 2, 4)]
        outcome, layout = merged(bench, *files)
        assert (layout.action, layout.note) == (
            "conflict",
            "both changed the file's contents besides its tensors: 'data.pkl'",
        )
        assert (outcome.conflicts, outcome.manifest.layout_conflict.reason.text) == (1, layout.note)
        for side, epoch in (("ours", 2), ("theirs", 4), ("base", 0)):
            settled = resolve(outcome.manifest, bench.store, choice(side))
            assert not settled.conflicted
            assert loaded(bench, settled) == ([3, 3, 3], {"epoch": epoch, "vocab": {"a": 0}})

    @pytest.mark.parametrize("swapped", [False, True], ids=["by ours", "by theirs"])
    def test_those_that_one_side_changed_are_kept(self, bench, swapped):
        sides = [torch_file(2, "another", epoch=1), torch_file(4, "thirdly", epoch=0)]
        outcome, _ = merged(bench, torch_file(0, epoch=0), *(sides[::-1] if swapped else sides))
        assert (outcome.conflicts, outcome.notes) == (0, ())
        assert loaded(bench, outcome.manifest) == ([3, 3, 3], {"epoch": 1})

    def test_both_may_change_them_alike(self, bench):
        outcome, _ = merged(
            bench, torch_file(0, epoch=0), torch_file(2, "another", epoch=1), torch_file(4, "thirdly", epoch=1)
        )
        assert (outcome.conflicts, outcome.notes) == (0, ())
        assert loaded(bench, outcome.manifest) == ([3, 3, 3], {"epoch": 1})

    @pytest.mark.parametrize(("side", "epoch"), [("ours", 1), ("theirs", 2)])
    def test_a_rule_for_a_side_decides(self, bench, side, epoch):
        files = [torch_file(value, epoch=value) for value in (0, 1, 2)]
        outcome, _ = merged(bench, *files, rules=Rules.only(side))
        assert loaded(bench, outcome.manifest) == ([epoch] * 3, {"epoch": epoch})


class TestNpz:
    def test_headers_that_both_changed_are_a_conflict(self, bench):
        outcome, _ = merged(bench, npz_file(0), npz_file(2, "a"), npz_file(4, "b"))
        assert "'notes.npy'" in outcome.manifest.layout_conflict.reason.text

    def test_the_time_of_writing_is_no_change(self, bench):
        outcome, _ = merged(bench, npz_file(0), npz_file(2, year=2021), npz_file(4, "b", 2022))
        assert outcome.conflicts == 0
        assert b"('b', '<f4')" in file_of(bench, outcome.manifest)


class TestSafetensors:
    def test_metadata_is_merged_key_by_key(self, bench):
        outcome, _ = merged(
            bench,
            safetensors_file(0, format="pt", step="0", old="x"),
            safetensors_file(2, format="pt", step="1", old="x"),
            safetensors_file(4, format="pt", step="0", rate="0.1"),
        )
        assert (outcome.conflicts, outcome.notes) == (0, ())
        assert file_of(bench, outcome.manifest)[8:].startswith(
            b'{"__metadata__":{"format":"pt","step":"1","rate":"0.1"}'
        )

    def test_a_key_that_both_changed_is_named_and_ours_kept(self, bench):
        files = [safetensors_file(value, step=str(value)) for value in (0, 2, 4)]
        outcome, layout = merged(bench, *files)
        assert outcome.notes == (layout.note,) == ("both changed the metadata 'step', and ours is kept",)
        assert b'"step":"2"' in file_of(bench, outcome.manifest)
        outcome, _ = merged(bench, *files, rules=Rules.only("theirs"))
        assert file_of(bench, outcome.manifest) == files[2]

    def test_without_a_common_ancestor_what_one_side_says_is_kept(self, bench):
        sides = [clean(memoryview(safetensors_file(1, **{key: "x"})), "m", bench.store).manifest for key in "ab"]
        outcome = apply(plan(None, sides, Rules.only()), bench.store)
        assert b'{"a":"x","b":"x"}' in file_of(bench, outcome.manifest)


INT8 = ("I8", {"qdata": ("I8", (4, 4)), "scale": ("F32", (4, 1)), "zero_point": ("I8", (4, 1))})
FLOAT8 = ("F8", {"qdata": ("F8_E4M3", (4, 4)), "scale": ("F32", (4, 1))})


def flattened(value, scheme=INT8, layer="a", **metadata):
    """Make a file as torchao flattens a layer; its metadata describe the weight under its plain name."""
    kind, parts = scheme
    header, data = {"__metadata__": {f"{layer}.weight": kind} | metadata}, b""
    for name, (dtype, shape) in parts.items():
        content = bytes([value]) * (int(np.prod(shape)) * (4 if dtype == "F32" else 1))
        offsets = [len(data), len(data) + len(content)]
        header[f"{layer}._weight_{name}"] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def metadata_of(bench, manifest):
    data = file_of(bench, manifest)
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("ours", [INT8, FLOAT8], ids=["one side quantised anew", "both did"])
def test_metadata_that_describe_a_quantised_weight_come_from_the_side_of_the_weight(bench, side, ours):
    files = [flattened(1), flattened(2, ours, step="1"), flattened(3, FLOAT8)]
    outcome, _ = merged(bench, *files)
    assert outcome.manifest.layout_conflict is not None
    assert "'a.weight' describes quantised weights in conflict" in outcome.manifest.layout_conflict.reason.text
    resolved = resolve(outcome.manifest, bench.store, choice(side))
    assert not resolved.conflicted
    assert file_of(bench, resolved) == files[1 if side == "ours" else 2]
    by_rule, _ = merged(bench, *files, rules=Rules.only(side))
    assert metadata_of(bench, by_rule.manifest)["a.weight"] == (ours[0] if side == "ours" else "F8")


def test_metadata_of_a_weight_that_one_side_quantised_anew_come_with_it(bench):
    outcome, _ = merged(bench, flattened(1, note="0"), flattened(1, note="1"), flattened(3, FLOAT8, note="2"))
    assert not outcome.manifest.conflicted
    assert metadata_of(bench, outcome.manifest) == {"a.weight": "F8", "note": "1"}


def test_metadata_that_only_one_side_changed_does_not_describe_the_other_sides_weight(bench):
    files = [flattened(1), flattened(2), flattened(3, FLOAT8)]
    assert clean(memoryview(files[0]), "m", bench.store).manifest.skeleton == (
        clean(memoryview(files[1]), "m", bench.store).manifest.skeleton
    )
    outcome, _ = merged(bench, *files)
    assert file_of(bench, resolve(outcome.manifest, bench.store, choice("ours"))) == files[1]
    assert file_of(bench, resolve(outcome.manifest, bench.store, choice("theirs"))) == files[2]
