"""Units of which both sides changed parts are found, and no others."""

import pytest

from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.merge.divided_units import divided_units

A, B, PLAIN = "l.0.lora_A.weight", "l.0.lora_B.weight", "norm.weight"


def version(one, two, three):
    def file(**seeds):
        parameters = {name: Parameter(TensorSpec.of("F32", (4, 4)), Digest(f"{n:064x}")) for name, n in seeds.items()}
        return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)

    return ModelVersion({"run/1": file(**{A: one, PLAIN: three}), "run/2": file(**{B: two})})


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ((5, 2, 3), (1, 6, 3), ["l.0"]),
        ((5, 2, 3), (1, 2, 6), []),
        ((5, 6, 3), (1, 2, 3), []),
        ((5, 6, 3), (5, 6, 3), []),
    ],
)
def test_only_units_that_both_sides_changed_differently(ours, theirs, found):
    versions = ModelVersions("run/model", version(1, 2, 3), (version(*ours), version(*theirs)))
    assert divided_units(versions) == found
