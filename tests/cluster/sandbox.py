"""One machine as a real SLURM cluster: daemons of its own on loopback ports, with accounting, and nothing left behind.

``python tests/cluster/sandbox.py install`` installs Debian's packages where they are missing. Needs root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server")

SLURM_CONF = """
ClusterName=kdlab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ctld}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/state/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,requeue_setup_env_fail
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
OverTimeLimit=0
InactiveLimit=0
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=15
BatchStartTimeout=10
CommunicationParameters=NoInAddrAny
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge/munge.sock
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes={names} MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
NODE += "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"

SLURMDBD_CONF = """
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={db}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
CommunicationParameters=NoInAddrAny
"""


def install() -> None:
    """Debian's packages, without starting their services."""
    known = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES]
    listed = subprocess.run(known, capture_output=True, text=True).stdout
    missing = [package for package in PACKAGES if f"{package} installed" not in listed]
    if not missing:
        return
    policy = Path("/usr/sbin/policy-rc.d")  # says no to every start of a service
    mine = not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    finally:
        if mine:
            policy.unlink()


class Cluster:
    """Two nodes, ``n1`` and ``n2``, in the partitions ``main`` and ``urgent``, whose jobs preempt those of ``main``.

    Args:
        folder: short, since it holds sockets; everything of the cluster is in it.
        cpus: how many each node claims to have.
    """

    NODES = ("n1", "n2")

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder, self.cpus = folder, cpus
        self.host = socket.gethostname().split(".")[0]
        self.processes: dict[str, int] = {}
        for name in ("etc", "run", "log", "state", "munge", "db"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        self._configure()

    def _configure(self) -> None:
        ports = free_ports(3 + len(self.NODES))
        self.db_port, self.password = ports[2], secrets.token_hex(8)
        nodes = [
            NODE.format(name=name, host=self.host, port=port, cpus=self.cpus)
            for name, port in zip(self.NODES, ports[3:], strict=True)
        ]
        known = {"host": self.host, "folder": self.folder, "ctld": ports[0], "dbd": ports[1], "db": ports[2]}
        known |= {"nodes": "\n".join(nodes), "names": ",".join(self.NODES), "password": self.password}
        self.conf = self.folder / "etc/slurm.conf"
        self.conf.write_text(SLURM_CONF.format(**known))
        (self.folder / "etc/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        dbd = self.folder / "etc/slurmdbd.conf"
        dbd.write_text(SLURMDBD_CONF.format(**known))
        dbd.chmod(0o600)
        key = self.folder / "munge/munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        (self.folder / "munge").chmod(0o711)

    def start(self) -> None:
        munge, run = self.folder / "munge", self.folder / "run"
        self._daemon(
            "munged", ["munged", f"--key-file={munge}/munge.key", f"--socket={munge}/munge.sock", "--num-threads=2",
                       f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged.log",
                       f"--seed-file={munge}/seed", "--force"]
        )  # fmt: skip
        self._database()
        self._daemon("slurmdbd", ["slurmdbd"])
        wait(lambda: self.ask("sacctmgr", "-n", "list", "cluster").returncode == 0, "slurmdbd answers")
        self._daemon("slurmctld", ["slurmctld"])
        wait(lambda: "UP" in self.ask("scontrol", "ping").stdout, "slurmctld answers")
        for node in self.NODES:
            self.start_node(node)
        wait(lambda: self.idle() == set(self.NODES), "the nodes are idle")

    def start_node(self, node: str) -> None:
        self._daemon(f"slurmd.{node}", ["slurmd", "-N", node])

    def kill_node(self, node: str) -> None:
        """As when the power goes: the daemon and all that it runs, at once."""
        daemon = self.processes.pop(f"slurmd.{node}")
        steps = [pid for pid, line in commands().items() if "slurmstepd" in line and self._on(pid, node)]
        for pid in [daemon, *steps, *[child for step in steps for child in descendants(step)]]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze_node(self, node: str) -> None:
        """As when the network goes: the daemon is silent, and its jobs run on."""
        os.kill(self.processes.pop(f"slurmd.{node}"), signal.SIGKILL)

    def revive_node(self, node: str) -> None:
        """The node is back, and free of what was done to it."""
        self.start_node(node)
        self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def _on(self, step: int, node: str) -> bool:
        """Whether a slurmstepd serves the node: one of its processes, or its children, has the node's name."""
        names = [environment(pid).get("SLURMD_NODENAME") for pid in descendants(step)]
        return node in names

    def idle(self) -> set[str]:
        return set(self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").stdout.split())

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"SLURM_CONF": str(self.conf)}
        return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)

    def stop(self) -> None:
        """End what :meth:`start` began, jobs first."""
        if "slurmctld" in self.processes:
            self.ask("scancel", "--signal=KILL", "--full", "--user=root")
            self.ask("scancel", "--user=root")
            with suppress(TimeoutError):
                wait(lambda: not self.ask("squeue", "-h").stdout.strip(), "no job is left", 20)
        order = [*[f"slurmd.{node}" for node in self.NODES], "slurmctld", "slurmdbd", "mariadbd", "munged"]
        for name in order:
            if name in self.processes:
                end(self.processes.pop(name))

    def _daemon(self, name: str, command: list[str]) -> None:
        variables = os.environ | {"SLURM_CONF": str(self.conf)}
        pid_file = self.folder / f"run/{name}.pid"
        pid_file.unlink(missing_ok=True)  # of one that was killed
        subprocess.run(command, check=True, env=variables, cwd=self.folder, timeout=30)
        wait(lambda: pid_file.exists() and pid_file.read_text().strip().isdigit(), f"{name} wrote its pid")
        self.processes[name] = int(pid_file.read_text())

    def _database(self) -> None:
        db, log = self.folder / "db", self.folder / "log"
        shutil.chown(db, "mysql", "mysql")
        data = [f"--datadir={db}/data", "--user=mysql"]
        initialise = ["mariadb-install-db", "--no-defaults", *data, "--auth-root-authentication-method=normal"]
        subprocess.run([*initialise, "--skip-test-db"], check=True, capture_output=True, timeout=120)
        server = subprocess.Popen(
            ["/usr/sbin/mariadbd", "--no-defaults", *data, f"--socket={db}/sock", "--bind-address=127.0.0.1",
             f"--port={self.db_port}", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
             "--innodb-lock-wait-timeout=900", "--performance-schema=OFF", "--skip-log-bin",
             f"--pid-file={db}/pid"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(log / "mariadbd.log").open("w"),
            start_new_session=True,
        )  # fmt: skip
        self.processes["mariadbd"] = server.pid
        client = ["mariadb", "--no-defaults", "-S", f"{db}/sock", "-u", "root", "-e"]
        wait(lambda: self.ask(*client, "SELECT 1").returncode == 0, "mariadbd answers")
        grants = "".join(
            f"CREATE USER {user} IDENTIFIED BY '{self.password}'; GRANT ALL ON slurm_acct.* TO {user};"
            for user in ("'slurm'@'localhost'", "'slurm'@'127.0.0.1'")
        )
        subprocess.run([*client, f"CREATE DATABASE slurm_acct; {grants}"], check=True)


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster that is up, and gone afterwards with its folder."""
    folder = Path(tempfile.mkdtemp(prefix="kdlab-slurm-", dir="/tmp"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end_of_patience = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end_of_patience:
            raise TimeoutError(f"waited {seconds:.0f} s until {what}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def end(pid: int) -> None:
    for by in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, by)
        for _ in range(100):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.1)


def commands() -> dict[int, str]:
    """pid -> command line of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def environment(pid: int) -> dict[str, str]:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def descendants(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: sandbox.py install")
    install()
