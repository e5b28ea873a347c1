"""Training on two hosts: network namespaces of this machine, joined by a virtual cable.

They share the file system, as hosts of a training do. It takes root, and EARSHOT_NETNS=1.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.training.train import train
from tests.support.commands import environment
from tests.support.tiny_training import write_words_recipe
from tests.training.test_processes import BOUND, DETERMINISTIC, metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "EARSHOT_NETNS" not in os.environ or os.geteuid() != 0,
        reason="makes network namespaces; set EARSHOT_NETNS=1 to run it as root",
    ),
]

ADDRESSES = {"earshot-1": "10.77.0.1", "earshot-2": "10.77.0.2"}
CABLE = "eth-earshot"
SHORT = ["optimisation.epochs=2", "optimisation.evaluate_every=5", *DETERMINISTIC]

PROGRAM = """
import os, signal, subprocess
import asr.training.train as training
step = training.train_step
def killed(run, *arguments):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["HOST"] == {victim!r} and run.progress.step == 7:
        {end}
    return step(run, *arguments)
training.train_step = killed
from asr.cli import main
main()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """The names of two hosts that reach each other, and nothing else, and their addresses."""
    first, second = ADDRESSES
    for name in ADDRESSES:
        ip("netns", "add", name)
    try:
        ends = ("type", "veth", "peer", "name", CABLE, "netns", second)
        ip("-n", first, "link", "add", CABLE, *ends)
        for name, address in ADDRESSES.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            for device in (CABLE, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield ADDRESSES
    finally:
        for name in ADDRESSES:
            ip("netns", "del", name)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_words_recipe(tmp_path_factory.mktemp("hosts"))
    train(path, ["name=alone", *SHORT], resume=False)
    return path


def torchrun(host: str, *program: str, hosts: str = "2") -> list[str]:
    """The command that runs a program on a host, as one of `hosts`."""
    first = next(iter(ADDRESSES))
    # Both have the host name of this machine: addresses tell them apart.
    rendezvous = f"is_host={int(host == first)},last_call_timeout=15"
    return [
        *("ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"),
        *(f"--nnodes={hosts}", "--nproc-per-node=1", "--max-restarts=2"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[first]}:29500"),
        *(f"--rdzv-conf={rendezvous}", f"--local-addr={ADDRESSES[host]}"),
        *("--no-python", *program),
    ]


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
STOPPED = f"os.kill(os.getppid(), signal.SIGKILL); {KILLED}"
"""`torchrun` and its process: nothing of this host comes back, and the system says so to others."""

CUT_OFF = f"subprocess.run(['ip', 'link', 'set', {CABLE!r}, 'down']); {STOPPED}"
"""Nobody says anything, as when the power fails."""


def start(
    recipe: Path, host: str, victim: str, end: str, name: str, hosts: str
) -> subprocess.Popen[str]:
    """Start the training on a host, as one of `hosts`; that of `victim` ends at step 7."""
    program = [sys.executable, "-c", PROGRAM.format(victim=victim, end=end), "train", str(recipe)]
    return subprocess.Popen(
        torchrun(host, *program, f"name={name}", *SHORT, hosts=hosts),
        env=environment(GLOO_SOCKET_IFNAME=CABLE, HOST=host),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_same(recipe: Path, name: str) -> None:
    """The figures are those of the training by one process alone."""
    one, two = (metrics(recipe.parent / "runs" / run) for run in ("alone", name))
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two]
    for alone, shared in zip(one, two, strict=True):
        for figure in alone.keys() - {"seconds"}:
            assert shared[figure] == pytest.approx(alone[figure], rel=BOUND), figure
    far = max(abs(a["train_loss"] / b["train_loss"] - 1.0) for a, b in zip(one, two, strict=True))
    print(f"{name}: {one[-1]['step']} steps, losses differ by {far:.1e} at most")


@pytest.mark.parametrize("victim", ["nobody", "earshot-2"])
def test_two_hosts_train_as_one_process(hosts: dict[str, str], recipe: Path, victim: str) -> None:
    """Also if the process of the second host is killed: both go on from the last checkpoint."""
    name = f"killed_{victim}"
    running = [start(recipe, host, victim, KILLED, name, "2") for host in hosts]
    outputs = [process.communicate(timeout=900)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    check_same(recipe, name)


@pytest.mark.parametrize("end", [STOPPED, CUT_OFF], ids=["stopped", "cut off"])
def test_one_host_goes_on_without_the_other(
    hosts: dict[str, str], recipe: Path, end: str, request: pytest.FixtureRequest
) -> None:
    """From the last checkpoint, if the second host is gone for good."""
    first, second = hosts
    impatient = ["sysctl", "-qw", "net.ipv4.tcp_retries2=5"]  # else it waits for a quarter hour
    subprocess.run(["ip", "netns", "exec", first, *impatient], check=True)
    name = request.node.callspec.id.replace(" ", "_")
    running = [start(recipe, host, second, end, name, "1:2") for host in hosts]
    outputs = [process.communicate(timeout=900)[0] for process in running]
    assert [process.returncode for process in running] == [0, -9], outputs
    check_same(recipe, name)
