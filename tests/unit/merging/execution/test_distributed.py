"""A merge in jobs gives the same manifest as one without, whatever is merged and however many run at a time."""

from contextlib import nullcontext

import numpy as np
import pytest

from git_theta_ext.cluster import jobs
from git_theta_ext.cluster.here import LocalWorkers
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution import engine, tasks
from git_theta_ext.merging.execution.distributed import DistributedMerge
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.store.exchange import SharedStore
from git_theta_ext.store.work_area import WorkArea

pytestmark = pytest.mark.usefixtures("composing")

METHODS = [
    ("average", {}),
    ("task_arithmetic", {}),
    ("ties", {}),
    ("ties", {"ties": "exact"}),
    ("ties", {"scope": "tensor"}),
    ("ties", {"scope": "rule", "majority": "count"}),
    ("dare", {"election": "ties"}),
    ("breadcrumbs", {}),
    ("slerp", {}),
    ("model_stock", {}),
    ("tsv_m", {}),
]


@pytest.fixture
def small(monkeypatch):
    """Give each job one tensor or two."""
    monkeypatch.setattr(jobs, "_SMALLEST_JOB", 1 << 14)


@pytest.fixture
def versions(bench):
    rng = np.random.default_rng(5)
    names = {f"layer.{n}": (30 + n % 3, 40) for n in range(7)} | {"scale": (), "empty": (0, 3)}
    base = {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in names.items()}
    sides = [{name: np.asarray(v + rng.normal(size=v.shape) / 9, np.float32) for name, v in base.items()} for _ in "ab"]
    return [bench.manifest(values) for values in (base, *sides)]


def merged(bench, versions, method, options, count=2, journal=None):
    """Merge in jobs; returns the result and the number of jobs that ran."""
    base, *sides = versions
    area = WorkArea(bench.store, "key")
    ran = []

    class Counting(LocalWorkers):
        def gather(self, some):
            return super().gather(ran.append(job) or job for job in some)

    journal = journal or Journal(None)
    distributed = DistributedMerge(Counting(count), SharedStore(bench.store, area), journal)
    engine = Engine(bench.store, journal=journal, distributed=distributed)
    outcome = apply(plan(base, sides, Rules.only(method, options)), bench.store, lambda: engine)
    area.close(remove=True)
    return outcome, len(ran)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_same_manifest_with_jobs_and_without(bench, versions, small, method, options):
    base, *sides = versions
    expected = apply(plan(base, sides, Rules.only(method, options)), bench.store)
    assert not expected.conflicts
    for count in (1, 3):
        outcome, _ = merged(bench, versions, method, options, count)
        assert outcome.manifest.to_bytes() == expected.manifest.to_bytes()
        assert (outcome.computed, outcome.notes, outcome.resumed) == (expected.computed, expected.notes, 0)
    assert list((bench.store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(("method", "limited"), [("iso_c", True), ("slerp", False)])
def test_jobs_share_the_cores_among_matrices_of_any_size(bench, versions, monkeypatch, method, limited):
    limits = []

    def noted(*, small):
        limits.append(small)
        return nullcontext()

    monkeypatch.setattr(engine, "one_core", noted)
    monkeypatch.setattr(tasks, "SMALL", 0)
    merged(bench, versions, method, {})
    assert limits[-1] is limited
    base, *sides = versions
    apply(plan(base, sides, Rules.only(method, {})), bench.store, lambda: Engine(bench.store))
    assert limits[-1] is False


def test_tensors_are_divided_among_several_jobs(bench, versions, small):
    assert merged(bench, versions, "average", {})[1] > 5


def test_a_damaged_tensor_is_in_conflict_as_without_jobs(bench, versions, small):
    lost = versions[1].parameters["layer.3"]
    path = bench.store.blobs([lost.digest])[lost.digest].path
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    outcome, _ = merged(bench, versions, "average", {})
    assert [conflict.name for conflict in outcome.manifest.conflicts] == ["layer.3"]
    expected = apply(plan(versions[0], versions[1:], Rules.only("average", {})), bench.store)
    assert [conflict.name for conflict in expected.manifest.conflicts] == ["layer.3"]
    assert outcome.manifest.parameters == expected.manifest.parameters


def test_what_jobs_finished_before_a_kill_is_not_computed_again(bench, versions, small, tmp_path, monkeypatch):
    base, *sides = versions
    area = WorkArea(bench.store, "key")
    journal = Journal(tmp_path / "journal")
    killed = DistributedMerge(LocalWorkers(1), SharedStore(bench.store, area), journal)
    monkeypatch.setattr(area, "add", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    engine = Engine(bench.store, journal=journal, distributed=killed)
    rules = Rules.only("ties", {})
    with pytest.raises(KeyboardInterrupt):
        apply(plan(base, sides, rules), bench.store, lambda: engine)
    area.close(remove=False)
    done = len(list((area.path / "done").iterdir()))
    assert done
    outcome, _ = merged(bench, versions, "ties", {}, journal=Journal(tmp_path / "journal"))
    assert outcome.resumed >= done
    expected = apply(plan(base, sides, rules), bench.store)
    assert outcome.manifest.to_bytes() == expected.manifest.to_bytes()
