"""The sandbox contract, checked by real RUNs.

One build checks most of it. Its caller has an environment, open files, ignored signals and a umask, which must not reach
the step. A few more builds check rules that need another image or network.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.cli import SCRIPT, Pybuild, copy_store, write_context
from tests.support.runs import outputs, run_all

DOCKER_CAPABILITIES = "00000000a80425fb"
NAMESPACES = ("cgroup", "ipc", "mnt", "pid", "user", "uts")
SECRET = "do-not-tell"
# The caller: SIGHUP is ignored, descriptors 7 and 8 are open, new files are writable for all users.
CALLER = ("nohup", "sh", "-c", 'umask 000; exec "$0" "$@" 7</etc/passwd 8</', SCRIPT)

COMMANDS = {
    "namespaces": "for kind in cgroup ipc mnt net pid user uts; do echo $kind $(readlink /proc/self/ns/$kind); done",
    "status": '["cat", "/proc/self/status"]',
    "parent": "grep ^PPid /proc/$$/status",
    "processes": "for d in /proc/[0-9]*; do echo ${d#/proc/} $(cat $d/comm 2>/dev/null); done",
    "session": "set -- $(cat /proc/$$/stat); echo pid $1 session $6 terminal $7",
    "descriptors": '["ls", "-l", "/proc/self/fd"]',
    "input": '["stat", "-L", "-c", "%F %t:%T", "/proc/self/fd/0"]',
    "environment": '["env"]',
    "other environments": "cat /proc/*/environ; true",
    "limits": "cat /proc/self/limits",
    "umask": "umask; touch /made; stat -c %a /made; rm /made",
    "mounts": "cat /proc/self/mountinfo",
    "cgroups": "cat /proc/self/cgroup",
    "devices": "cd /dev; ls -l | grep -v ^total | while read m l u g s t; do echo $m $u $g $s $t; done",
    "device contents": "head -c 4 /dev/zero | od -An -tx1; head -c 4 /dev/urandom | wc -c; echo x > /dev/full; true",
    "a new device": "mknod /null c 1 3; true",
    "masked files": "cd /proc; for f in interrupts kcore keys sched_debug timer_list; do"
    " [ -e $f ] && echo $f $(stat -c '%F %t:%T' $f) $(head -c 9 $f | wc -c); done; true",
    "masked directories": "for d in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do"
    " [ -d $d ] && echo $d $(ls $d | wc -l); done; true",
    "writing to proc": "cd /proc; for f in sys/kernel/core_pattern sys/vm/overcommit_memory sysrq-trigger irq/default_smp_affinity;"
    " do [ -e $f ] && sh -c \"echo 1 > $f\"; done; true",
    "writing to sys": "mkdir /sys/fs/cgroup/mine; sh -c 'echo 1 > /sys/kernel/mm/ksm/run'; true",
    "remounting proc": "mount -o remount,rw /proc/sys; umount /proc/kcore; true",
    "host name": "hostname; cat /proc/sys/kernel/hostname; hostname other; true",
    "resolv.conf": "cat /etc/resolv.conf",
    "hosts": "cat /etc/hosts",
    "writing to hosts": "sh -c 'echo x >> /etc/hosts'; sh -c 'echo x >> /etc/resolv.conf'; true",
    "broken pipe": "yes | head -n 1",
    "calls": "/probe calls",
    "sockets": "/probe sockets",
    "terminal": "/probe tty",
    "tracing pid 1": "/probe ptrace 1",
    "files of pid 1": "cd /proc/1; ls cwd/ root/; cat exe maps fd/*; true",
    "changed user": "cp /probe /owned && chown 1000 /owned && chmod 4755 /owned && /owned ids",
}  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Pybuild:
    """The pybuild command with a store that the tests of this file share."""
    root = tmp_path_factory.mktemp("machine") / "store"
    copy_store(store_with_base, root)
    return Pybuild(root)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, machine: Pybuild, probe: bytes) -> dict[str, str]:
    """The output of each command."""
    caller = Pybuild(machine.root, {"PB_SECRET": SECRET, "LD_PRELOAD_": "x"}, CALLER)
    before = ("COPY --chmod=755 probe /probe", "ENV FROM_RECIPE=yes", "ARG WITH_DEFAULT=1")
    return run_all(caller, tmp_path_factory.mktemp("said"), COMMANDS, before=before, files={"probe": probe})


def fields(text: str) -> dict[str, str]:
    """Parse `name value` lines."""
    return dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line or "\t" in line)


# -- processes


def test_each_namespace_is_the_steps_own(said: dict[str, str]) -> None:
    inside = fields(said["namespaces"])
    assert set(inside) == {*NAMESPACES, "net"}
    for kind in NAMESPACES:
        assert inside[kind] != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_process_1_is_the_parent_and_no_other_process_is_visible(said: dict[str, str]) -> None:
    assert said["parent"].split() == ["PPid:", "1"]
    processes = fields(said["processes"])
    assert set(processes.values()) <= {"sh", "cat", "python3", processes["1"]}
    assert len(processes) <= 3


def test_the_command_leads_a_session_without_a_terminal(said: dict[str, str]) -> None:
    words = said["session"].split()
    assert (words[1], words[5]) == (words[3], "0")


def test_only_the_three_streams_are_open(said: dict[str, str]) -> None:
    lines = [line.split()[8:] for line in said["descriptors"].splitlines() if line.startswith(("lr", "l-"))]
    assert [line[0] for line in lines] == ["0", "1", "2", "3"]  # the last is the directory being listed
    assert all(line[2].startswith("pipe:") for line in lines[1:3])


def test_standard_input_is_empty(said: dict[str, str]) -> None:
    assert said["input"] == "character special file 1:3\n"


def test_signals_have_their_defaults(said: dict[str, str]) -> None:
    status = fields(said["status"])
    assert {status[name] for name in ("SigIgn:", "SigBlk:", "SigCgt:")} == {"0" * 16}


def test_a_writer_into_a_closed_pipe_ends_silently(said: dict[str, str]) -> None:
    assert said["broken pipe"] == "y\n"


# -- privileges


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CapInh:", "0" * 16), ("CapAmb:", "0" * 16), ("CapPrm:", DOCKER_CAPABILITIES), ("CapEff:", DOCKER_CAPABILITIES),
        ("CapBnd:", DOCKER_CAPABILITIES), ("NoNewPrivs:", "0"), ("Seccomp:", "2"),
    ],
    ids=lambda value: value if value.endswith(":") else "",
)  # fmt: skip
def test_root_has_dockers_capabilities(said: dict[str, str], name: str, value: str) -> None:
    assert fields(said["status"])[name] == value


def test_another_user_has_no_capabilities_except_through_setuid_programs(tmp_path: Path, machine: Pybuild, probe: bytes) -> None:
    commands = {"status": "cat /proc/self/status", "setuid": "/setuid ids"}
    before = ("COPY --chmod=4755 probe /setuid", "USER app")
    found = run_all(machine, tmp_path, commands, before=before, files={"probe": probe})
    status = fields(found["status"])
    assert {status[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")} == {"0" * 16}
    assert status["CapBnd:"] == DOCKER_CAPABILITIES
    assert found["setuid"] == "1000 0\n"


def test_a_setuid_program_changes_the_user(said: dict[str, str]) -> None:
    assert said["changed user"] == "0 1000\n"


ALLOWED_CALLS = (
    "capset", "chroot", "copy_file_range", "fchownat", "getrandom", "memfd_create", "mknodat", "openat2", "ptrace",
    "setgroups", "setresuid", "statx",
)  # fmt: skip


def test_system_calls_are_denied_as_docker_denies_them(said: dict[str, str]) -> None:
    found = fields(said["calls"])
    allowed = {name: found.pop(name) for name in ALLOWED_CALLS}
    assert not {"EPERM", "ENOSYS"} & {allowed[name] for name in allowed if name != "setgroups"}, allowed
    assert found.pop("clone3") == "ENOSYS"
    found.pop("x32_getpid", None)
    assert len(found) > 40
    assert {name: error for name, error in found.items() if error != "EPERM"} == {}


def test_calls_of_the_x32_abi_do_not_exist(said: dict[str, str]) -> None:
    if os.uname().machine == "x86_64":
        assert fields(said["calls"])["x32_getpid"] == "ENOSYS"


def test_kernel_crypto_and_hypervisor_sockets_are_denied(said: dict[str, str]) -> None:
    found = fields(said["sockets"])
    assert {int(domain) for domain, error in found.items() if error == "EPERM"} >= {38, 40}
    assert found["1"] == found["2"] == "ok"


def test_process_1_cannot_be_traced(said: dict[str, str]) -> None:
    assert said["tracing pid 1"] == "ptrace EPERM\n"


def test_process_1_gives_no_access_to_the_machine(said: dict[str, str]) -> None:
    lines = said["files of pid 1"].splitlines()
    assert len(lines) >= 5
    assert all("Permission denied" in line for line in lines), lines


def test_no_device_can_be_made(said: dict[str, str]) -> None:
    assert "Operation not permitted" in said["a new device"]


# -- environment, files and users


def test_the_environment_is_made_from_the_recipe_alone(said: dict[str, str]) -> None:
    expected = ["FROM_RECIPE=yes", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert sorted(said["environment"].splitlines()) == [*expected, "WITH_DEFAULT=1"]


def test_the_callers_environment_is_not_readable(said: dict[str, str]) -> None:
    assert "FROM_RECIPE=yes" in said["other environments"]
    assert not any(SECRET in text for text in said.values())


def test_limits_are_reset(said: dict[str, str]) -> None:
    found = {line[:26].strip(): line[26:].split()[:2] for line in said["limits"].splitlines()}
    assert found["Max core file size"] == ["0", "0"]
    assert int(found["Max open files"][0]) <= 1 << 20
    assert found["Max stack size"][0] == str(8 << 20)


def test_the_umask_is_the_usual_one(said: dict[str, str]) -> None:
    assert said["umask"] == "0022\n644\n"


def test_the_host_name_is_fixed(said: dict[str, str]) -> None:
    assert said["host name"].splitlines()[:2] == ["pybuild", "pybuild"]
    assert "not permitted" in said["host name"]


def test_resolv_conf_is_that_of_the_machine(said: dict[str, str]) -> None:
    assert said["resolv.conf"] == Path("/etc/resolv.conf").read_text()


def test_hosts_names_the_local_host_only(said: dict[str, str]) -> None:
    assert said["hosts"].split() == ["127.0.0.1", "localhost", "pybuild", "::1", "localhost", "ip6-localhost", "ip6-loopback"]


def test_both_files_are_read_only(said: dict[str, str]) -> None:
    assert said["writing to hosts"].count("Read-only file system") == 2


USERS = {
    "": (0, 0, {0}, "/root"),
    "root": (0, 0, {0}, "/root"),
    "app": (1000, 1000, {1000, 50}, "/home"),
    "1000": (1000, 1000, {1000, 50}, "/home"),
    "daemon": (1, 1, {1}, "/usr/sbin"),
    "1234": (1234, 0, {0}, "/"),
    "1234:4321": (1234, 4321, {4321}, "/"),
    "app:staff": (1000, 50, {50}, "/home"),
    "app:0": (1000, 0, {0}, "/home"),
}


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory, machine: Pybuild) -> dict[str, dict[str, str]]:
    """For each form of USER: the kernel's view of the process, and HOME."""
    lines = []
    for number, user in enumerate(USERS):
        lines += [f"USER {user}"] if user else []
        lines.append(f"RUN echo HOME $HOME; cat /proc/self/status; : {number}")
    directory = tmp_path_factory.mktemp("users")
    found = run_all(machine, directory, {"last": "true"}, before=lines)
    assert found == {"last": ""}
    said = outputs(machine("--progress=json", "--no-cache", directory))
    return {user: fields(text) for user, text in zip(USERS, said.values(), strict=True)}


@pytest.mark.parametrize("user", USERS)
def test_user_and_groups_come_from_the_image(users: dict[str, dict[str, str]], user: str) -> None:
    uid, gid, groups, home = USERS[user]
    found = users[user]
    assert found["Uid:"].split() == [str(uid)] * 4
    assert found["Gid:"].split() == [str(gid)] * 4
    assert {int(group) for group in found["Groups:"].split()} == groups
    assert found["HOME"] == home


def test_a_home_of_the_recipe_stays(tmp_path: Path, machine: Pybuild) -> None:
    assert run_all(machine, tmp_path, {"home": "echo $HOME"}, before=["ENV HOME=/mine"]) == {"home": "/mine\n"}


# -- filesystems


def mounts(text: str) -> dict[str, tuple[str, set[str]]]:
    """Mount point -> type and options of the topmost mount there. proc_pid_mountinfo(5)."""
    found = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split()
        found[words[4]] = (right.split()[0], set(words[5].split(",")))
    return found


MOUNTS = {
    "/": ("overlay", {"nodev", "rw"}),
    "/proc": ("proc", {"nosuid", "nodev", "noexec", "rw"}),
    "/proc/sys": ("proc", {"nosuid", "nodev", "noexec", "ro"}),
    "/proc/irq": ("proc", {"nosuid", "nodev", "noexec", "ro"}),
    "/proc/bus": ("proc", {"nosuid", "nodev", "noexec", "ro"}),
    "/proc/fs": ("proc", {"nosuid", "nodev", "noexec", "ro"}),
    "/dev": ("tmpfs", {"nosuid", "noexec", "rw"}),
    "/dev/pts": ("devpts", {"nosuid", "noexec", "rw"}),
    "/dev/shm": ("tmpfs", {"nosuid", "nodev", "noexec", "rw"}),
    "/dev/mqueue": ("mqueue", {"nosuid", "nodev", "noexec", "rw"}),
    "/etc/hosts": ("tmpfs", {"nosuid", "nodev", "noexec", "ro"}),
    "/etc/resolv.conf": ("tmpfs", {"nosuid", "nodev", "noexec", "ro"}),
}


@pytest.mark.parametrize("place", MOUNTS)
def test_a_mount_has_its_options(said: dict[str, str], place: str) -> None:
    kind, options = MOUNTS[place]
    found = mounts(said["mounts"])
    assert found[place][0] == kind
    assert found[place][1] >= options


def test_nothing_else_is_mounted(said: dict[str, str]) -> None:
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    places = set(mounts(said["mounts"])) - set(MOUNTS) - devices
    assert {place for place in places if not place.startswith(("/proc/", "/sys"))} == set()


def test_all_below_sys_is_read_only(said: dict[str, str]) -> None:
    below = {place: options for place, (_, options) in mounts(said["mounts"]).items() if place.startswith("/sys")}
    assert below
    assert all(options >= {"ro", "nosuid", "nodev", "noexec"} for options in below.values()), below
    assert said["writing to sys"].count("Read-only file system") + said["writing to sys"].count("nonexistent") == 2


def test_proc_tells_nothing_about_the_machine(said: dict[str, str]) -> None:
    files = [line.rsplit(maxsplit=1) for line in said["masked files"].splitlines()]
    assert files
    for what, length in files:
        assert what.endswith("character special file 1:3") and length == "0", what
    assert all(count == "0" for count in fields(said["masked directories"]).values())


def test_proc_changes_nothing_about_the_machine(said: dict[str, str]) -> None:
    lines = said["writing to proc"].splitlines()
    assert len(lines) >= 3
    assert all("Read-only file system" in line for line in lines)


def test_no_mask_can_be_removed(said: dict[str, str]) -> None:
    lines = said["remounting proc"].splitlines()
    assert len(lines) == 2 and all("not permitted" in line or "denied" in line for line in lines)


def test_the_steps_cgroup_is_the_root_of_what_it_sees(said: dict[str, str]) -> None:
    assert {line.split(":", 2)[2] for line in said["cgroups"].splitlines()} == {"/"}


DEVICES = {
    "null": "crw-rw-rw- root root 1, 3", "zero": "crw-rw-rw- root root 1, 5", "full": "crw-rw-rw- root root 1, 7",
    "random": "crw-rw-rw- root root 1, 8", "urandom": "crw-rw-rw- root root 1, 9", "tty": "crw-rw-rw- root root 5, 0",
    "fd": "-> /proc/self/fd", "stdin": "-> /proc/self/fd/0", "stdout": "-> /proc/self/fd/1",
    "stderr": "-> /proc/self/fd/2", "core": "-> /proc/kcore", "ptmx": "-> pts/ptmx",
    "pts": "", "shm": "drwxrwxrwt", "mqueue": "drwxrwxrwt",
}  # fmt: skip


def test_dev_holds_the_usual_devices_and_no_other(said: dict[str, str]) -> None:
    found = {}
    for line in said["devices"].splitlines():
        left, arrow, target = line.partition(" -> ")
        words = left.split()
        device = " ".join(words[3:5]) if words[0].startswith("c") else ""
        found[words[-1]] = f"-> {target}" if arrow else f"{words[0]} root root {device}" if device else words[0]
    assert set(found) == set(DEVICES)
    for name, expected in DEVICES.items():
        assert expected in found[name], name


def test_the_devices_work(said: dict[str, str]) -> None:
    zeros, length, full = said["device contents"].splitlines()
    assert zeros.split() == ["00"] * 4
    assert length == "4"
    assert "No space left on device" in full


def test_a_partly_hidden_proc_of_a_container_stays_hidden(tmp_path: Path, machine: Pybuild) -> None:
    hide = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /proc/keys && exec "$0" "$@"', SCRIPT)
    context = write_context(tmp_path / "c", "FROM pybuild.test/base\nCOPY Buildfile /\nRUN true\n")
    said = Pybuild(machine.root, command=hide).refused(context)
    assert "Buildfile:3:1: error: this container forbids a new /proc, because its own /proc is partly hidden\n" in said
    assert "hint: start it with --security-opt systempaths=unconfined" in said
    # Steps that need no /proc work there.
    (context / "Buildfile").write_text("FROM pybuild.test/base\nCOPY Buildfile /\n")
    Pybuild(machine.root, command=hide)(context)


# -- the network


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, machine: Pybuild, probe: bytes) -> dict[str, str]:
    """The output of commands without network."""
    name = f"pybuild-test-{os.getpid()}"
    commands = {
        "namespace": "readlink /proc/self/ns/net",
        "devices": "ls /sys/class/net",
        "loopback": "ip addr show lo",
        "routes": "ip route",
        "abstract": f"/probe connect {name}",
        "mounts": "cat /proc/self/mountinfo",
    }
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        directory = tmp_path_factory.mktemp("alone")
        before = ("COPY --chmod=755 probe /probe",)
        return run_all(machine, directory, commands, "--network=none", before=before, files={"probe": probe})


def test_without_network_loopback_is_the_only_device(alone: dict[str, str]) -> None:
    assert alone["namespace"].strip() != os.readlink("/proc/self/ns/net")
    assert alone["devices"].split() == ["lo"]
    assert "UP" in alone["loopback"] and "127.0.0.1" in alone["loopback"]
    assert alone["routes"] == ""


def test_without_network_the_machines_abstract_sockets_are_out_of_reach(alone: dict[str, str]) -> None:
    assert alone["abstract"] == "connect ECONNREFUSED\n"


def test_without_network_sys_is_the_steps_own_and_read_only(alone: dict[str, str]) -> None:
    kind, options = mounts(alone["mounts"])["/sys"]
    assert kind == "sysfs" and options >= {"ro", "nosuid", "nodev", "noexec"}
