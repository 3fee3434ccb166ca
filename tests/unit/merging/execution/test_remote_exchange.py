"""A merge in jobs that exchange tensors through a remote gives the same manifest, and reads no tensor itself."""

import numpy as np
import pytest
from pickled import PickledWorkers, copied

from git_theta_ext.cluster import jobs
from git_theta_ext.errors import ConfigError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.distributed import DistributedMerge
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.execution.tasks import read_here
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import job_exchange
from git_theta_ext.transfer.job_exchange import RemoteAccess, RemoteExchange, check_for_jobs
from git_theta_ext.transfer.places import RemotePlace
from git_theta_ext.transfer.sync import fetch, push

pytestmark = pytest.mark.usefixtures("composing")

METHODS = [("average", {}), ("ties", {}), ("ties", {"ties": "exact"}), ("ties", {"scope": "tensor"}), ("slerp", {})]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Give each job one tensor or two, and this machine a directory for temporary files."""
    monkeypatch.setattr(jobs, "_SMALLEST_JOB", 1 << 14)
    made = tmp_path / "machine"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    return made


@pytest.fixture
def place(tmp_path):
    url = str(tmp_path / "remote")
    return RemotePlace("origin", url, url)


@pytest.fixture
def versions(bench):
    rng = np.random.default_rng(5)
    names = {f"layer.{n}": (30 + n % 3, 40) for n in range(7)} | {"scale": (), "empty": (0, 3)}
    base = {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in names.items()}
    sides = [{name: np.asarray(v + rng.normal(size=v.shape) / 9, np.float32) for name, v in base.items()} for _ in "ab"]
    return [bench.manifest(values) for values in (base, *sides)]


@pytest.fixture
def elsewhere(bench, versions, place, tmp_path):
    """Return a store without tensors, of which the remote has all."""
    push(bench.store, place.opened(), {digest for manifest in versions for digest, _ in manifest.digests()})
    made = Store(tmp_path / "elsewhere")
    yield made
    made.close()


def merged(store, place, versions, method, options, journal=None):
    base, *sides = versions
    journal = journal or Journal(None)
    exchange = RemoteExchange(store, place, place.opened())
    decided = plan(base, sides, Rules.only(method, options))
    fetch(store, [place.opened()], read_here(decided, {}))
    engine = Engine(store, journal=journal, distributed=DistributedMerge(PickledWorkers(2), exchange, journal))
    outcome = apply(decided, store, lambda: engine)
    exchange.close()
    return outcome


def values(manifest):
    return {parameter.digest for parameter in manifest.parameters.values()}


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_same_manifest_without_a_tensor_here(bench, versions, elsewhere, place, machine, method, options):
    base, *sides = versions
    outcome = merged(elsewhere, place, versions, method, options)
    expected = apply(plan(base, sides, Rules.only(method, options)), bench.store)
    assert outcome.manifest.to_bytes() == expected.manifest.to_bytes()
    assert outcome.computed == expected.computed
    assert list(machine.iterdir()) == []
    if "exact" not in options.values():
        wanted = values(outcome.manifest)
        assert elsewhere.touch_and_find_missing(wanted) == wanted
        fetch(elsewhere, [place.opened()], wanted)


def test_inputs_that_the_remote_lacks_are_uploaded_first(bench, versions, place):
    outcome = merged(bench.store, place, versions, "average", {})
    assert not outcome.conflicts
    wanted = values(outcome.manifest) - values(versions[0])
    assert len(wanted) == 8
    assert bench.store.touch_and_find_missing(wanted) == wanted
    assert RemoteExchange(bench.store, place, place.opened()).provide(values(versions[0]) | wanted) == set()


def test_a_tensor_that_is_nowhere_is_in_conflict(versions, place, tmp_path, bench):
    known = {d for m in versions for d, _ in m.digests()} - {versions[1].parameters["layer.3"].digest}
    push(bench.store, place.opened(), known)
    elsewhere = Store(tmp_path / "elsewhere")
    outcome = merged(elsewhere, place, versions, "average", {})
    elsewhere.close()
    assert [conflict.name for conflict in outcome.manifest.conflicts] == ["layer.3"]


def test_a_damaged_tensor_is_in_conflict_with_a_warning(bench, versions, elsewhere, place, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(elsewhere, "warn", warnings.append)
    lost = versions[1].parameters["layer.3"]
    entry = bench.store.blobs([lost.digest])[lost.digest].entry
    for location in RemoteExchange(elsewhere, place, place.opened()).inputs([lost.digest]).entries:
        path = pack_path(tmp_path / "remote", location)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(entry.offset + entry.stored // 2)
            file.write(bytes(30))
    outcome = merged(elsewhere, place, versions, "average", {})
    assert [conflict.name for conflict in outcome.manifest.conflicts] == ["layer.3"]
    (warning,) = warnings
    assert lost.digest in warning
    assert warning.endswith("git theta fsck --remote origin --full")


def test_a_merge_that_is_killed_is_resumed(bench, versions, elsewhere, place, tmp_path, monkeypatch):
    real, calls = RemoteExchange.add, []

    def add(self, packs):
        calls.append(packs)
        if len(calls) > 3:
            raise KeyboardInterrupt
        real(self, packs)

    monkeypatch.setattr(RemoteExchange, "add", add)
    with pytest.raises(KeyboardInterrupt):
        merged(elsewhere, place, versions, "ties", {}, Journal(tmp_path / "journal"))
    monkeypatch.setattr(RemoteExchange, "add", real)
    outcome = merged(elsewhere, place, versions, "ties", {}, Journal(tmp_path / "journal"))
    assert outcome.resumed >= 3
    expected = apply(plan(versions[0], versions[1:], Rules.only("ties", {})), bench.store)
    assert outcome.manifest.to_bytes() == expected.manifest.to_bytes()


def test_a_job_downloads_only_the_entries_that_it_reads(versions, elsewhere, place, monkeypatch):
    monkeypatch.setattr(job_exchange, "REQUEST", 1)
    wanted = versions[1].parameters["layer.2"]
    inputs = RemoteExchange(elsewhere, place, place.opened()).inputs([wanted.digest])
    with inputs.opened(1) as store:
        assert len(store.read(wanted.digest, wanted.spec)) == wanted.spec.nbytes
        others = {d for m in versions for d, _ in m.digests()} - {wanted.digest}
        assert store.touch_and_find_missing(others) == others


def test_each_machine_says_why_it_cannot_reach_the_remote(place):
    for there, answer in ((place, ""), (RemotePlace("origin", "x", "s3://bucket?key", "s3"), "only a host or bucket")):
        with RemoteAccess(there).checked() as check:
            assert answer in copied(check)()
            assert bool(answer) is bool(check())


def test_only_remotes_with_a_url_of_their_own_serve_jobs(place):
    check_for_jobs(RemotePlace("origin", "x", "s3://bucket/models", "s3"))
    with pytest.raises(ConfigError, match="no object store"):
        check_for_jobs(place)
    with pytest.raises(ConfigError, match="no object store"):
        check_for_jobs(RemotePlace("origin", "x", "https://host/models.git", "https", "lfs"))
