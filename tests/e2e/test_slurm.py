"""SLURM for real: a cluster on this machine, a plate killed in the middle, the same command again.

munged, slurmctld and slurmd run from a slurm.conf in a temporary folder, on free ports; nothing
of the system's own set-up is read or changed.
"""

import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hcs_utils.data import manifest as manifests
from hcs_utils.data import plates
from hcs_utils.data.screens import simulated
from hcs_utils.data.sites import _spread
from tests.data.test_preprocess import fingerprint

ROOT = Path(__file__).resolve().parents[2]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=2
SlurmdTimeout=600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def until(found, seconds, what, told=lambda: ""):
    """Wait for `found()` to give something, and return it."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"{what} took more than {seconds} s.\n{told()}"
        time.sleep(0.2)
    return value


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def configure(folder, srun):
    """Write the cluster's slurm.conf and a munge key that only the user munge reads."""
    for name in ("state", "spool", "munge", "bin"):
        (folder / name).mkdir(mode=0o755)
    wrapper = folder / "bin" / "srun"  # Snakemake takes SLURM_CONF away from the srun of a job
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n', "utf-8")
    wrapper.chmod(0o755)
    key, user = folder / "munge" / "key", pwd.getpwnam("munge")
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (key, key.parent):
        os.chown(path, user.pw_uid, user.pw_gid)
    host = socket.gethostname().split(".")[0]
    values = {"host": host, "ports": free_ports(2), "folder": folder}
    values["cpus"] = max(4, os.cpu_count() or 1)  # all plates at a time: one of them waits
    (folder / "slurm.conf").write_text(CONF.format(**values), "utf-8")


def start(folder, name, command, environment, **options):
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True,
            preexec_fn=end_with_the_tests, **options,
        )  # fmt: skip


def end_with_the_tests():
    """Let the system end this process when the one that started it is gone, even if killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def stop(processes):
    """End processes and all that they started, the last first."""
    for process in reversed(processes):
        for sign, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break


@pytest.fixture
def cluster():
    """The environment in which SLURM's commands find a cluster of this machine alone."""
    tools = {name: shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
             for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun")}  # fmt: skip
    lacking = [name for name, path in tools.items() if path is None]
    if lacking:
        pytest.skip(f"SLURM is not installed ({', '.join(lacking)}): apt install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("a SLURM cluster of one's own is started by root only")
    folder = Path(tempfile.mkdtemp(prefix="hcs-slurm-", dir="/tmp"))  # munge must get through
    folder.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SNAKEMAKE"))}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf")}
    environment |= {"PATH": f"{folder / 'bin'}:{environment['PATH']}"}
    processes = []
    try:
        configure(folder, tools["srun"])
        munge = folder / "munge"
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid"}
        files |= {"seed-file": "seed", "log-file": "log"}
        command = [tools["munged"], "--foreground"]
        command += [f"--{name}={munge / file}" for name, file in files.items()]
        as_munge = {"user": "munge", "group": "munge", "extra_groups": []}
        processes.append(start(folder, "munged", command, environment, **as_munge))
        until((munge / "socket").exists, 60, "munged", (folder / "munged.log").read_text)
        for name in ("slurmctld", "slurmd"):
            processes.append(start(folder, name, [tools[name], "-D"], environment))

        def idle():
            asked = ["sinfo", "--noheader", "--format=%T"]
            told = subprocess.run(asked, env=environment, capture_output=True, text=True)
            return told.stdout.strip() == "idle"

        until(idle, 120, "SLURM's node", lambda: logs(folder))
        yield environment, folder
    finally:
        with suppress(Exception):  # jobs first: slurmd's children have process groups of their own
            subprocess.run(["scancel", "--user=root"], env=environment, timeout=15)
            jobs = ["squeue", "--noheader", "--format=%i"]
            for _ in range(20):
                if not subprocess.run(jobs, env=environment, capture_output=True).stdout:
                    break
                time.sleep(0.5)
        stop(processes)
        end_those_within(folder)
        shutil.rmtree(folder, ignore_errors=True)


def logs(folder):
    return "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in folder.glob("*.log"))


def processes_of(*words):
    """Ids of the processes whose command line has all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            given = path.read_bytes().split(b"\0")
            if all(word.encode() in given for word in words):
                found.append(int(path.parent.name))
    return found


def end_those_within(folder):
    """End what still runs with this cluster's slurm.conf: steps that slurmd has left."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if int(path.parent.name) != os.getpid() and mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


@pytest.fixture
def screen(tmp_path):
    """Four plates of simulated fields; the path of their manifest, its table, and the root."""
    config = simulated.SimulatedConfig(
        treatments=2, batches=4, plates=1, wells=2, control_wells=2, sites=1, size=32
    )
    root = simulated.draw(tmp_path / "screen", config, workers=1)
    table = simulated.manifest(root)
    manifests.write(table, tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet", table, root


@pytest.fixture
def expected(screen, tmp_path):
    """What the plates come to on this machine, without a workflow."""
    _, table, root = screen
    out = tmp_path / "expected"
    plates.plan(table, root, out, plates.Recipe(scale="plate", crop_px=24))
    for plate in sorted(set(table["plate"])):
        plates.run_plate(out, plate)
    plates.join(out)
    return out


def results(out):
    """The bytes of an out folder but those that tell times or are a workflow's own."""
    found = {name: fingerprint(out / name) for name in ("images.zarr", "plates")}
    markers = [name for name in found["plates"] if "/" not in name]
    for name in markers:
        status = json.loads((out / "plates" / name).read_text("utf-8"))
        found["plates"][name] = {k: v for k, v in status.items() if k != "seconds"}
    for name in ("failed.csv", "statistics.parquet", "manifest.parquet"):
        found[name] = (out / name).read_bytes()
    return found


@pytest.mark.xdist_group("slurm")
def test_a_plate_killed_on_slurm_then_the_same_command_finishes_what_is_left(
    cluster, screen, expected, tmp_path
):
    environment, folder = cluster
    manifest, table, root = screen
    ordered = table.sort_values(["plate", "well", "site"], ignore_index=True)
    third = ordered.index[ordered["plate"] == sorted(set(table["plate"]))[2]]
    held = next(row for row in third if row not in _spread(len(ordered))[:9])  # not read by plan
    file = root / ordered["path_DNA"][held]
    plate, content = ordered["plate"][held], file.read_bytes()
    file.unlink()
    os.mkfifo(file)  # who reads it waits for ever

    out, log = tmp_path / "out", tmp_path / "snakemake.log"
    command = [str(Path(sys.executable).with_name("snakemake"))]
    command += ["--snakefile", str(ROOT / "workflow" / "preprocess.smk")]
    command += ["--profile", str(ROOT / "workflow" / "profiles" / "slurm"), "--retries", "0"]
    command += ["--slurm-no-account", "--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "4"]  # then 14, 24, …
    command += ["--config", f"screen={manifest}", f"root={root}", f"out={out}"]
    command += ["scale=plate", "crop_px=24"]

    def told():
        return log.read_text("utf-8", "replace")[-6000:] + logs(folder)

    def snakemake():
        with log.open("ab") as file:
            return subprocess.Popen(
                command, cwd=tmp_path, stdout=file, stderr=file, env=environment,
                start_new_session=True,
            )  # fmt: skip

    first = snakemake()
    try:
        names = sorted(set(table["plate"]) - {plate})
        markers = [out / "plates" / f"{name}.json" for name in names]

        def three_done_and_one_held():
            assert first.poll() is None, told()
            return all(path.exists() for path in markers) and processes_of("plate", str(out), plate)

        (job,) = until(three_done_and_one_held, 400, "three plates", told)
        os.kill(job, signal.SIGKILL)
        assert first.wait(200) != 0
    finally:
        stop([first])
    assert f"plates/{plate}.json" in log.read_text("utf-8")
    assert "Error in rule plate" in log.read_text("utf-8")
    assert not (out / "plates" / f"{plate}.json").exists()
    assert not (out / "plates" / f"{plate}.zarr").exists() and not (out / "images.zarr").exists()

    file.unlink()
    file.write_bytes(content)
    before = [path.stat().st_mtime_ns for path in markers]
    second = snakemake()
    try:
        assert second.wait(400) == 0, told()
    finally:
        stop([second])
    assert [path.stat().st_mtime_ns for path in markers] == before
    assert results(out) == results(expected)
