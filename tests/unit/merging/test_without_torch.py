"""On the CPU, methods that take arrays are computed without torch, and others get tensors."""

import subprocess
import sys

import numpy as np
import torch

from git_theta_ext.interfaces import Piece
from git_theta_ext.merging.devices.methods import merge_by
from git_theta_ext.registry import built_in, find_merge

TENSORS_ONLY = {"actmat", "knots", "mats"}

SCRIPT = """
import sys
import numpy as np
from git_theta_ext.merging.devices.open import open_devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.memory import MemoryStore

store = MemoryStore()
rng = np.random.default_rng(0)
SPECS = {name: TensorSpec.of(name, (6, 5)) for name in ("F32", "BF16", "F16", "F64", "F8_E5M2")}

LORA = {"w.lora_A.weight": TensorSpec.of("F32", (2, 5)), "w.lora_B.weight": TensorSpec.of("F32", (6, 2))}

def version(specs):
    row = {}
    for name, spec in specs.items():
        data = rng.integers(0x30, 0x3C, spec.nbytes, np.uint8).tobytes()
        row[name] = store.add(spec, data)
    return Manifest("safetensors", Skeleton("0" * 64, 9), row)

for name in sys.argv[1:]:
    base, ours, theirs = (version(LORA if name.startswith("lora_") else SPECS) for _ in range(3))
    engine = Engine(store, lambda contracts: open_devices("cpu", contracts))
    computed = engine.compute(plan(base, (ours, theirs), Rules.only(name)))
    assert not computed.failed, (name, computed.failed)
    assert computed.values.keys() == ours.parameters.keys(), name
    assert "torch" not in sys.modules, name
"""


def test_only_methods_that_amplify_rounding_need_torch():
    assert {name for name in built_in("merges") if not find_merge(name).contract.arrays} == TENSORS_ONLY


def test_merges_on_the_processor_do_not_import_torch():
    needing_statistics = {"fisher", "regmean"}
    names = sorted(set(built_in("merges")) - TENSORS_ONLY - needing_statistics)
    subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True)


class _Mean:
    """A method from before there were arrays."""

    name = "mean"
    contract = find_merge("knots").contract

    def __call__(self, piece):
        return torch.stack(piece.branches).mean(dim=0)


def test_a_method_that_does_not_say_that_it_takes_arrays_gets_tensors():
    piece = Piece("w", np.zeros(3, np.float32), (np.ones(3, np.float32), np.full(3, 2, np.float32)))
    merged = merge_by(_Mean(), piece)
    assert isinstance(merged, np.ndarray)
    assert merged.tolist() == [1.5, 1.5, 1.5]
