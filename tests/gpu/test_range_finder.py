import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from git_theta_ext.model.floats import round_once  # noqa: E402
from git_theta_ext.model.tensor import TensorSpec  # noqa: E402
from git_theta_plugins.encodings import _low_rank_fit  # noqa: E402


def test_a_large_update_is_found_on_the_device():
    rng = np.random.default_rng(0)
    spec = TensorSpec.of("F32", (2048, 2304))
    parent = (rng.standard_normal(spec.shape) * 0.03).astype(np.float32)
    update = rng.standard_normal((2048, 12)) @ rng.standard_normal((12, 2304)) * 3e-4
    target = parent + update.astype(np.float32)
    data, base = (memoryview(round_once(each.astype(np.float64), spec.dtype)) for each in (target, parent))
    known = _low_rank_fit._update(_low_rank_fit._Rows(spec, data), _low_rank_fit._Rows(spec, base), spec.shape)
    assert known.centre.size >= _low_rank_fit._PAYS_ON_DEVICE
    torch.cuda.reset_peak_memory_stats()
    left, right = _low_rank_fit._factor(known, 24)
    assert torch.cuda.max_memory_allocated() > known.centre.nbytes, "the device was used"
    assert left.shape[1] == 12
    assert (np.abs(left @ right - known.centre) <= known.half).mean() > 0.95
