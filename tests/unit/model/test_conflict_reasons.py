"""Reasons of conflicts have a code, also those of manifests that were written before there were codes."""

import pytest

from git_theta_ext.model.conflict_reasons import ConflictCode, Reason

GOLDEN = {
    "changed by both": "changed",
    "changed by 2 of 3 sides": "changed",
    "added by both, differently": "added",
    "deleted by ours, changed by theirs": "deleted",
    "changed by ours, deleted by theirs": "deleted",
    "deleted by one side, changed by another": "deleted",
    "shapes differ: F32 [2], F32 [3]": "shape",
    "shapes differ by more than appended rows: F32 [2], F32 [3]": "shape",
    "several sides changed the number of rows: F32 [2], F32 [3]": "shape",
    "shape changed by both: F32 [1] became F32 [2]": "shape",
    "the element type was changed to BF16 and F16": "element-type",
    "the sides have numbers of different kinds: C64 [2], F32 [2]": "element-type",
    "changed by both, and I64 values are not merged by arithmetic": "arithmetic",
    "changed by both, and the common ancestor has no such tensor": "ancestor",
    "changed by 3 sides, and the common ancestor has F32 [2]": "ancestor",
    "the common ancestors differ, and so do the sides": "ancestor",
    "changed by 3 sides, and the method merges 2": "method",
    "changed by 3 sides, and a change is applied to one other": "method",
    "only the two factors of a LoRA can be merged by this method": "method",
    "part of a quantised weight, of which ours and theirs changed something": "unit",
    "part of a LoRA (deleted by one side), of which ours changed something": "unit",
    "theirs has NaN or infinite values": "failed",
    "the result does not fit F16": "failed",
    f"{'a' * 64} is not in the store": "failed",
    "the merge was killed before it was computed": "interrupted",
    "files of this format are merged as a whole": "whole-file",
    "the sides have different formats": "format",
    "both changed what lies beside the tensors: 'data.pkl'": "metadata",
    "depends on the parameters in conflict": "layout",
    "files of this format cannot be laid out anew for the merged parameters": "layout",
    "integers differ": "other",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_old_texts_have_the_codes_that_they_stand_for(text):
    assert (Reason(text).code, Reason(text).text) == (ConflictCode(GOLDEN[text]), text)


@pytest.mark.parametrize("code", ConflictCode)
def test_a_code_is_written_before_its_text_whatever_the_text_says(code):
    reason = Reason.of(code, "the sides have different formats: a")
    assert reason.written == f"{code.value}: the sides have different formats: a"
    assert (Reason(reason.written).code, str(reason)) == (code, "the sides have different formats: a")


def test_a_text_with_a_colon_is_not_a_code():
    assert (Reason("why: because").code, Reason("why: because").text) == (ConflictCode.OTHER, "why: because")
