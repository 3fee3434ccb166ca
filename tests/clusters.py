"""A Ray cluster on this machine, for the tests of a module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kills import ON_IMPORT

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_request_timeout_seconds": "240",
    "RAY_health_check_failure_threshold": "5",  # a machine that is gone fails at once, and a busy one after the timeout
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_memory_monitor_refresh_ms": "0",  # it would kill workers if something else takes memory
    "RAY_raylet_start_wait_time_s": "240",
    "RAY_worker_register_timeout_seconds": "240",
}
"""Settings for the cluster and for what connects to it: a busy machine is not a broken one."""

MERGING = "git_theta_ext.merging.execution.distributed._merge"
COUNTING = "git_theta_ext.merging.execution.distributed._count"
RECODING = "git_theta_ext.store.maintenance.write_jobs._write"
WRITING = "git_theta_ext.checkpoint.populate_jobs._write"
DECODING = "git_theta_ext.store.verification.jobs._examine"
CHECKING = "git_theta_ext.transfer.job_downloads._check"
HASHING = "git_theta_ext.store.maintenance.fsck._wrong_packs"
"""What does a job of each kind."""

_CLUSTER = """\
import os
import sys
from ray.cluster_utils import Cluster

folder, machines = sys.argv[1], int(sys.argv[2])
arguments = {"include_dashboard": False, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0 if machines else 3, **arguments})


def add(number):
    own = os.path.join(folder, f"machine-{number}")
    os.makedirs(own, exist_ok=True)
    cluster.add_node(num_cpus=1, env_vars={"MACHINE": own, "TMPDIR": own}, **arguments)


for number in range(machines):
    add(number)
print("at", cluster.address, flush=True)
for line in sys.stdin:
    machines += 1
    add(machines)
    print("added", flush=True)
cluster.shutdown()
"""

_KILL = """
import os
import signal
from contextlib import contextmanager


def kill(module):
    real = module.perform

    def perform(run, *args):
        done = real(run, *args)
        try:
            with open(os.environ["ARMED"]) as file:
                what, job = file.read().split()
            if job != f"{run.func.__module__}.{run.func.__name__}":
                return done
            os.rename(os.environ["ARMED"], os.environ["ARMED"] + ".fired")
        except FileNotFoundError:
            return done
        if what == "machine":
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    module.perform = perform


def refuse(event, arguments):
    if hiding and event == "open" and str(arguments[0]).startswith(os.environ["HIDDEN"]):
        raise FileNotFoundError(arguments[0])


def hide(module):
    real = module.RemoteInputs.opened

    @contextmanager
    def opened(self, threads):
        hiding.append(True)
        try:
            with real(self, threads) as store:
                yield store
        finally:
            hiding.pop()

    module.RemoteInputs.opened = opened


hiding = []
sys.meta_path.insert(0, OnImport("git_theta_ext.cluster.jobs", kill))
if "MACHINE" in os.environ:
    sys.addaudithook(refuse)
    sys.meta_path.insert(0, OnImport("git_theta_ext.transfer.job_exchange", hide))
"""


@dataclass(frozen=True)
class RayCluster:
    """A cluster of one machine with three cores, or of several with one core each.

    Attributes:
        address: Its address, for ``theta.cluster``.
        folder: What its processes share with the tests.
        process: What runs it.
    """

    address: str
    folder: Path
    process: subprocess.Popen[str]

    def kill_one_worker(self, job: str = MERGING) -> None:
        """Let the next worker that has done a job kill itself before it says so.

        Args:
            job: The function that does it, with its module.
        """
        self._arm("worker", job)

    def kill_one_machine(self, job: str = MERGING) -> None:
        """Let the next worker that has done a job kill itself, and Ray on its machine."""
        self._arm("machine", job)

    def _arm(self, what: str, job: str) -> None:
        (self.folder / "armed.fired").unlink(missing_ok=True)
        (self.folder / "armed.new").write_text(f"{what} {job}")
        (self.folder / "armed.new").rename(self.folder / "armed")

    def add_machine(self) -> None:
        """Add a machine, in place of one that was killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("add\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "added\n"

    def kill_head(self) -> None:
        """Kill what Ray cannot run without."""
        killed = [path for path in Path("/proc").glob("[0-9]*") if self._has(path, b"gcs_server")]
        assert killed
        for path in killed:
            os.kill(int(path.name), signal.SIGKILL)

    def killed_one(self) -> bool:
        """Return whether a worker has killed itself since."""
        return (self.folder / "armed.fired").exists()

    def wait_until_idle(self) -> None:
        """Wait until no worker runs a job."""
        end = time.monotonic() + 120
        while any(self._has(path, b"ray::perform") for path in Path("/proc").glob("[0-9]*")):
            assert time.monotonic() < end, "a job does not end"
            time.sleep(0.01)

    def _has(self, process: Path, command: bytes) -> bool:
        """Return whether a process, by its directory in ``/proc``, is one of this cluster that runs a command."""
        with suppress(OSError):
            ours = os.fsencode(self.folder) in (process / "environ").read_bytes()
            return ours and command in (process / "cmdline").read_bytes()
        return False


@contextmanager
def ray_cluster(folder: Path, machines: int = 0, hidden: Path = Path(os.devnull)) -> Iterator[RayCluster]:
    """Start a cluster, and stop it after the block.

    Args:
        folder: An empty directory, with a short name: the paths of sockets are limited to 107 bytes.
        machines: Number of machines, each with a directory of its own for temporary files; 0 for a single one.
        hidden: A directory that jobs which exchange tensors through a remote cannot open files in.
    """
    (folder / "sitecustomize.py").write_text(ON_IMPORT + _KILL)
    environment = {
        **os.environ,
        **PATIENT,
        "ARMED": str(folder / "armed"),
        "HIDDEN": str(hidden),
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
        "RAY_TMPDIR": str(folder),
    }
    command = [sys.executable, "-c", _CLUSTER, str(folder), str(machines)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
    with process:
        assert process.stdout is not None
        address = next((line.split()[1] for line in process.stdout if line.startswith("at ")), None)
        if address is None:
            pytest.skip(f"Ray does not start here: {(folder / 'log').read_text()[-300:]}")
        yield RayCluster(address, folder, process)
