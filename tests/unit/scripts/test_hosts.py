"""templates/hosts/, and templates/machines/ with provider ssh: hosts are adopted, and released as they were found."""

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import TEMPLATES
from components.scripts import in_place
from tests.unit.shell import (
    NO_WAITING,
    RECORDER,
    STACK_FOLDER,
    SUDO,
    Answer,
    Finished,
    World,
    refused,
    succeeded,
)

INPUTS = {
    "PROVIDER": "ssh",
    "NODE": "web-1",
    "HOST": "192.0.2.11 admin 22",
    "PORTS": "8080 80",
    "SSH_CONFIG": "Host web-1\n",
}
SETTINGS = "images/node/files/etc/docker/daemon.json"
OWNED = "/srv/", "/etc/", "/var/lib/", "/proc/", "/sys/"
"""Folders of a host and of this machine; a test's host has its own copy of each."""
# A test's host has only the programs of `node/`.
ONLY_ITS_OWN = """
command() {
  if [[ -n ${ON_NODE-} && $1 == -v ]]; then [[ -x $STUBS/node/$2 ]]; else builtin command "$@"; fi
}
"""
RESTORED = "unit swarm-site-firewall.service"
DEBIAN = 'ID=debian\nPRETTY_NAME="Debian 12"\n'
THERE = [
    Answer("web-1: uname -n", "web-1\n"),
    Answer("web-1: docker info"),
    Answer("web-1: docker info -f {{.Swarm.LocalNodeState}}", "inactive\n"),
    Answer("web-1: docker info -f {{.LiveRestoreEnabled}}", "false\n"),
    Answer("web-1: docker version -f *", "20.10\n"),
    Answer("web-1: docker network inspect docker_gwbridge", status=1),
    Answer("web-1: id -u", "1000\n"),
    Answer("web-1: id -nG admin", "admin sudo\n"),
    Answer("web-1: usermod -aG docker admin"),
]
INSTALLS = [
    Answer("web-1: apt-get * update"),
    Answer(
        "web-1: apt-get -s install --no-install-recommends *",
        "Inst libc6 [1] (2 Debian)\nInst runc (1 Debian)\nInst docker.io (20 Debian)\nConf docker.io (20 Debian)\n",
    ),
    Answer("web-1: dpkg-query -W * runc docker.io", status=1),
    Answer("web-1: dpkg --configure -a"),
    Answer("web-1: apt-get * install --no-install-recommends --no-upgrade runc docker.io"),
    Answer("web-1: getent group docker", status=2),
    Answer("web-1: systemctl -q enable --now docker.service"),
]


PROGRAMS = [
    *("apt-get", "curl", "docker", "dpkg", "dpkg-query", "getent", "gpasswd", "groupdel", "id", "ip", "iptables"),
    *("iptables-restore", "iptables-save", "rsync", "systemctl", "uname", "usermod"),
]


@dataclass(frozen=True)
class Host:
    """An existing host: its files in a folder, its programs stubs."""

    world: World

    @property
    def files(self) -> Path:
        return self.world.stubs / "host"

    def file(self, path: str, text: str = "") -> Path:
        file = self.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def without(self, *programs: str) -> None:
        for name in programs:
            (self.world.stubs / "node" / name).unlink()

    def moved(self, text: str) -> str:
        """Return a script with the host's folders replaced by those of the test."""
        return re.sub(rf"(?<![\w.~])({'|'.join(OWNED)})", rf"{self.files}\1", text)

    def place_tree(self) -> None:
        shutil.copytree(TEMPLATES, self.world.tree, dirs_exist_ok=True)
        for path in self.world.tree.rglob("*.sh"):
            path.write_text(self.moved(path.read_text()))

    def script(self, path: str, **environment: str) -> Finished:
        self.place_tree()
        return self.world.script(path, **INPUTS | environment)

    def delete(self, path: str, changes: dict[str, str] | None = None, **environment: str) -> Finished:
        if self.world.tree.exists():
            shutil.rmtree(self.world.tree)
        text = self.moved(self.world.altered_text(path, changes or {}, **INPUTS))
        return self.world.without_tree(text, path, **INPUTS | environment)

    def adopt(self) -> Finished:
        return self.script("machines/create.sh")

    def give_back(self, changes: dict[str, str] | None = None, **environment: str) -> Finished:
        return self.delete("machines/delete.sh", changes, **environment)

    def release(self, *arguments: str) -> Finished:
        """Run the release script on the host as its owner would: without this machine's tree and inputs."""
        return subprocess.run(
            ["bash", self.notes / "release", *arguments],
            cwd=self.files,
            env={
                "PATH": f"{self.world.stubs}/node:{os.environ['PATH']}",
                "STUBS": str(self.world.stubs),
                "BASH_ENV": str(self.world.stubs / "no-waiting"),
                "ON_NODE": "web-1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def found(self) -> dict[str, str]:
        """Return every file and folder of the host with its text."""
        paths = sorted(self.files.rglob("*"))
        return {str(path.relative_to(self.files)): path.read_text() if path.is_file() else "" for path in paths}

    @property
    def mark(self) -> Path:
        """The mark on this machine that the host may need to be released."""
        return self.world.work / "machines/web-1/adopted"

    @property
    def notes(self) -> Path:
        return self.files / "srv/swarm-site/host"

    def changes(self) -> list[str]:
        return [line.replace(str(self.files), "") for line in (self.notes / "changes").read_text().splitlines()]

    def orders(self) -> list[str]:
        """Return the calls that change the host."""
        docker = "docker (info|version|network inspect|ps|image ls)"
        asks = re.compile(rf"web-1: ({docker}|apt-get -s|iptables -S|dpkg-query|getent|id|uname)\b")
        return [call.removeprefix("web-1: ") for call in self.world.calls() if not asks.match(call)]


APT = (
    "apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Keep-Downloaded-Packages=false "
    "-o Dpkg::Options::=--force-confold"
)


@pytest.fixture
def host(world: World) -> Host:
    """A Debian host with Docker and all other requirements; its user is not in the group docker."""
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    for name in PROGRAMS:
        world.stub("node", name, RECORDER)
    world.stub("node", "sudo", SUDO)
    (world.stubs / "no-waiting").write_text(NO_WAITING + ONLY_ITS_OWN)
    (world.work / "identity").write_text("THEKEY ann@laptop\n")
    host = Host(world)
    host.file("etc/os-release", DEBIAN)
    host.file(
        "proc/net/tcp",
        "  sl  local_address rem_address   st\n"
        "   0: 00000000:0016 00000000:0000 0A\n   1: 0100007F:0050 00000000:0000 01\n",
    )
    host.file("proc/sys/net/ipv4/ip_forward", "0\n")
    (host.files / "var/lib").mkdir(parents=True)
    (host.files / "srv").mkdir()
    world.plan(*THERE)
    return host


def test_an_adoption_of_a_host_with_docker_records_what_it_changed(host: Host) -> None:
    output = succeeded(host.adopt())
    assert re.fullmatch(
        r"web-1: adopting it \(log: .work/dev/machines/web-1/log\)\n"
        r"web-1: Debian 12, Docker 20.10\nweb-1: up after \d+ s\n",
        output,
    )
    assert host.changes() == [RESTORED, "member admin", "network docker_gwbridge"]
    assert (host.notes / "owner").read_text() == "THEKEY web-1\n"
    assert re.fullmatch(r"stack dev of \w+@\S+\n", (host.notes / "whose").read_text())
    assert host.orders() == ["usermod -aG docker admin"]
    assert not (host.files / "etc/docker").exists()


def test_an_adoption_installs_docker_and_records_every_new_package(host: Host) -> None:
    host.without("docker", "iptables")
    # Docker exists as soon as it is installed.
    host.world.stub(
        "node",
        "apt-get",
        RECORDER.replace(
            "line=0", '[[ $* != *" install "* || $1 == -s ]] || cp "$STUBS/node/dpkg" "$STUBS/node/docker"\nline=0'
        ),
    )
    host.world.plan(*INSTALLS, *THERE)
    succeeded(host.adopt())
    assert host.changes() == [
        "package runc",
        "package docker.io",
        RESTORED,
        "member admin",
        "group docker",
        *(f"file /etc/docker/{name}.json" for name in ("daemon", "key")),
        *(f"folder {path}" for path in ("/etc/docker", "/etc/cni", "/var/lib/docker", "/var/lib/containerd")),
        "forwarding 0",
        "policy ACCEPT",
    ]
    assert host.orders() == [
        f"{APT} update",
        "dpkg --configure -a",
        f"{APT} install --no-install-recommends --no-upgrade runc docker.io",
        "systemctl -q enable --now docker.service",
        "usermod -aG docker admin",
    ]
    settings = json.loads((host.files / "etc/docker/daemon.json").read_text())
    assert settings == json.loads((TEMPLATES / SETTINGS).read_text())


def test_an_interrupted_adoption_continues_from_its_record(host: Host) -> None:
    host.file("srv/swarm-site/host/owner", "THEKEY web-1\n")
    host.file("srv/swarm-site/host/changes", "package runc\npackage docker.io\n")
    host.world.plan(*INSTALLS, *THERE)
    succeeded(host.adopt())
    assert host.orders() == [
        "dpkg --configure -a",
        f"{APT} install --no-install-recommends --no-upgrade runc docker.io",
    ]
    host.world.plan(Answer("web-1: dpkg-query -W * runc docker.io", "ii \nii \n"), *THERE)
    before = len(host.orders())
    succeeded(host.adopt())
    assert host.orders()[before:] == []


def test_what_an_earlier_version_did_not_need_is_recorded_and_installed(host: Host) -> None:
    host.file("srv/swarm-site/host/owner", "THEKEY web-1\n")
    host.file("srv/swarm-site/host/changes", "package runc\nmember admin\n")
    host.without("rsync")
    host.world.plan(
        Answer("web-1: apt-get * update"),
        Answer(
            "web-1: apt-get -s install --no-install-recommends rsync",
            "Inst libpopt0 (1 Debian)\nInst rsync (3 Debian)\n",
        ),
        Answer("web-1: dpkg-query -W * runc libpopt0 rsync", status=1),
        Answer("web-1: dpkg --configure -a"),
        Answer("web-1: apt-get * install --no-install-recommends --no-upgrade runc libpopt0 rsync"),
        *THERE,
    )
    succeeded(host.adopt())
    assert host.changes() == ["package runc", "member admin", "package libpopt0", "package rsync", RESTORED]
    host.file("etc/os-release", 'ID=fedora\nPRETTY_NAME="Fedora"\n')
    host.file("srv/swarm-site/host/changes", "member admin\n")
    assert "; install them there: rsync (log: " in refused(host.adopt())
    assert host.changes() == ["member admin"]


def test_an_incomplete_record_is_written_again(host: Host) -> None:
    host.file("srv/swarm-site/draft/changes", "package half")
    succeeded(host.adopt())
    assert host.changes() == [RESTORED, "member admin", "network docker_gwbridge"]


def test_a_refused_adoption_lists_every_cause_and_changes_nothing(host: Host) -> None:
    host.file("proc/net/tcp", "   0: 00000000:1F90 00000000:0000 0A\n   1: 0100007F:0050 00000000:0000 0A\n")
    host.file("etc/os-release", "ID=fedora\n")
    host.without("curl")
    (host.files / "srv/swarm-site").mkdir()
    host.world.plan(
        Answer("web-1: uname -n", "www\n"),
        Answer("web-1: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
        Answer("web-1: docker info -f {{.LiveRestoreEnabled}}", "true\n"),
        *THERE,
    )
    error = refused(host.adopt())
    assert error == (
        "web-1: can't be adopted: its host name is www; use that name in machines.hosts; "
        "/srv/swarm-site exists but belongs to no stack; move it away; "
        "it runs fedora, and packages are installed on Debian and Ubuntu only; install them there: curl; "
        "it is a member of another swarm; "
        "its Docker keeps containers running across restarts (live-restore), which a swarm does not allow; "
        "disable that there; its port 8080 is already in use; its port 80 is already in use "
        "(log: .work/dev/machines/web-1/log); fix the cause and run again: make up\n"
    ).replace("/srv/", f"{host.files}/srv/")
    assert host.orders() == []
    assert list((host.files / "srv/swarm-site").iterdir()) == []


def test_a_host_with_data_of_an_uninstalled_docker_is_refused(host: Host) -> None:
    host.without("docker")
    host.file("var/lib/docker/image")
    host.world.plan(*INSTALLS, *THERE)
    assert "holds data of a Docker that is no longer installed; move it away" in refused(host.adopt())
    assert host.orders() == []


def test_a_host_whose_docker_does_not_answer_is_refused(host: Host) -> None:
    host.world.plan(Answer("web-1: docker info", status=1), *THERE)
    assert "its Docker does not answer; start it there: systemctl start docker" in refused(host.adopt())


@pytest.mark.parametrize("owner", ["ANOTHER web-1\n", "THEKEY web-2\n"])
def test_a_host_of_another_owner_is_refused_with_how_to_release_it(host: Host, owner: str) -> None:
    host.file("srv/swarm-site/host/owner", owner)
    host.file("srv/swarm-site/host/whose", "stack blue of ann@there\n")
    error = refused(host.adopt())
    assert "web-1: can't be adopted: it belongs to stack blue of ann@there; run make down there or, if that" in error
    assert f"no longer exists, on the host: sudo bash {host.notes}/release" in error
    assert host.orders() == []
    assert not host.mark.exists()


def test_packages_that_can_not_be_fetched_fail_with_the_error_of_apt(host: Host) -> None:
    host.without("curl")
    host.world.plan(Answer("web-1: apt-get * update", "E: no network\n", status=100), *THERE)
    assert "can't be adopted: apt-get update failed: E: no network (log: " in refused(host.adopt())
    assert not host.notes.exists()


SAYING = """#!/usr/bin/env bash
printf '%b' "$SSH_SAYS" >&2
exit 255
"""
STRICT = "and you have requested strict checking."
CHANGED = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"


@pytest.mark.parametrize(
    ("reached", "says", "advice"),
    [
        (
            "192.0.2.11 admin 22",
            f"No ED25519 host key is known for 192.0.2.11 {STRICT}\nHost key verification failed.\n",
            "the host key of 192.0.2.11 is not known to this user's ssh; check its fingerprint and add it: "
            "ssh -p 22 admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 2222 bastion",
            f"{CHANGED}\nHost key for [192.0.2.11]:2222 has changed {STRICT}\nHost key verification failed.\n",
            "forget the old one: ssh-keygen -R '[192.0.2.11]:2222', and add the new one: "
            "ssh -p 2222 -J bastion admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 2222 bastion",
            f"{CHANGED}\nHost key for bastion has changed {STRICT}\nHost key verification failed.\n",
            "the host key of bastion has changed: the host was reinstalled, or the connection is being intercepted. "
            "If the new key is right, forget the old one: ssh-keygen -R 'bastion', and",
        ),
        (
            "192.0.2.11 admin 22",
            "admin@192.0.2.11: Permission denied (publickey).\n",
            "it accepts none of this user's ssh keys; add one: ssh-copy-id -p 22 admin@192.0.2.11",
        ),
        (
            "192.0.2.11 admin 22 bastion",
            "admin@192.0.2.11: Permission denied (publickey).\n",
            "it accepts none of this user's ssh keys; add one: ssh-copy-id -p 22 -o ProxyJump=bastion admin@192.0.2.11",
        ),
        (
            "192.0.2.11 admin 22 ann@bastion:2222",
            "ann@bastion: Permission denied (publickey).\n",
            "its jump host ann@bastion accepts none of this user's ssh keys; add one there, then try: "
            "ssh -p 22 -J ann@bastion:2222 admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 22",
            "ssh: connect to host 192.0.2.11 port 22: No route to host\n",
            "it does not answer; find out why: ssh -p 22 admin@192.0.2.11 true",
        ),
    ],
)
def test_a_host_that_ssh_can_not_enter_is_refused_with_what_to_do(
    host: Host, reached: str, says: str, advice: str
) -> None:
    host.world.stub("here", "ssh", SAYING)
    error = refused(host.script("machines/create.sh", HOST=reached, SSH_SAYS=says))
    assert error.startswith("web-1: can't be adopted: ")
    assert advice in error
    assert error.endswith(f"({says.rstrip()})\n"), "the error of ssh itself"


def test_a_user_whose_sudo_asks_for_a_password_is_refused(host: Host) -> None:
    host.world.stub("node", "sudo", "#!/bin/sh\necho 'a password is required' >&2\nexit 1\n")
    host.world.stub("here", "sudo", "#!/bin/sh\nexit 1\n")
    assert refused(host.adopt()) == (
        "web-1: can't be adopted: its user needs passwordless sudo; run there as root: "
        "echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/swarm-site\n"
    ).replace("/etc/", f"{host.files}/etc/")


def test_root_installs_a_missing_sudo(host: Host) -> None:
    host.without("sudo")
    host.world.stub("here", "sudo", "#!/bin/sh\nexit 127\n")
    host.world.plan(
        Answer("web-1: id -u", "0\n"),
        Answer("web-1: apt-get -s install --no-install-recommends sudo", "Inst sudo (1 Debian)\n"),
        Answer("web-1: dpkg-query -W * sudo", status=1),
        Answer("web-1: apt-get * install --no-install-recommends --no-upgrade sudo"),
        *INSTALLS,
        *THERE,
    )
    succeeded(host.script("machines/create.sh", HOST="192.0.2.11 root 22"))
    assert host.changes() == ["package sudo", RESTORED, "network docker_gwbridge"]


GIVES_BACK = [
    Answer("web-1: id -u", "1000\n"),
    Answer("web-1: docker version", "20\n"),
    Answer("web-1: docker swarm leave --force", once=True),
    Answer("web-1: docker swarm leave --force", "Error: This node is not part of a swarm\n", status=1),
    Answer("web-1: docker ps -aq --filter label=swarm-site.part", "c1\nc2\n", once=True),
    Answer("web-1: docker rm -fv c1 c2", "removal of container c1 is already in progress\n", status=1),
    Answer("web-1: docker ps -aq --filter label=swarm-site.part"),
    Answer(
        "web-1: docker image ls --filter reference=localhost/site/\\* --filter reference=localhost:1/site-\\* *",
        "localhost:1/site-nginx:1\n",
    ),
    Answer("web-1: docker image rm -f localhost:1/site-nginx:1"),
    Answer("web-1: docker network inspect docker_gwbridge"),
    Answer("web-1: docker network rm docker_gwbridge"),
    Answer("web-1: id -nG admin", "admin docker\n"),
    Answer("web-1: gpasswd -d admin docker"),
    Answer("web-1: dpkg-query -s *"),
    Answer("web-1: apt-get -s purge runc docker.io", "Purg docker.io [20]\nPurg runc [1]\n"),
    Answer("web-1: apt-get * remove runc docker.io"),
    Answer("web-1: apt-get * purge runc docker.io"),
    Answer("web-1: systemctl *"),
    Answer(
        "web-1: iptables-save ",
        ":FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER_OUTPUT - [0:0]\n"
        "-A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j ACCEPT\n-A INPUT -j ACCEPT\n",
    ),
    Answer("web-1: getent group docker", "docker:x:1:\n"),
    Answer("web-1: groupdel docker"),
]


def adopted(host: Host) -> None:
    """A host after its adoption, with the files of later steps."""
    succeeded(host.adopt())
    host.file("srv/swarm-site/content/index.html")
    (host.world.stubs / "calls").unlink()
    host.world.plan(*GIVES_BACK)


def test_a_returned_host_keeps_its_own_docker(host: Host) -> None:
    adopted(host)
    assert re.fullmatch(r"web-1: removed in \d+ s\n", succeeded(host.give_back()))
    assert host.orders() == [
        *["docker swarm leave --force"] * 2,
        "docker rm -fv c1 c2",
        "docker image rm -f localhost:1/site-nginx:1",
        "docker network rm docker_gwbridge",
        "gpasswd -d admin docker",
    ]
    assert list((host.files / "srv").iterdir()) == []
    assert not (host.world.work / "machines/web-1").exists()


def test_the_firewall_is_removed_with_the_unit_that_restores_it(host: Host) -> None:
    adopted(host)
    unit = host.file("etc/systemd/system/swarm-site-firewall.service")
    host.file("srv/swarm-site/firewall/apply", 'echo "web-1: apply $*" >>"$STUBS/calls"\n')
    succeeded(host.give_back())
    orders = host.orders()
    assert not unit.exists()
    removal = ["apply off", "systemctl -q disable --now swarm-site-firewall.service", "systemctl daemon-reload"]
    assert orders[orders.index("apply off") :][:3] == removal
    assert orders.index("docker swarm leave --force") < orders.index("apply off")


def test_a_firewall_that_can_not_be_removed_keeps_the_record(host: Host) -> None:
    adopted(host)
    host.file("srv/swarm-site/firewall/apply", "echo 'iptables: Resource temporarily unavailable' >&2\nexit 4\n")
    assert "can't be given back: iptables: Resource temporarily unavailable (log: " in refused(host.give_back())
    assert host.notes.exists()


def test_a_docker_that_keeps_its_swarm_ports_is_waited_for_and_reported_once(host: Host) -> None:
    adopted(host)
    host.file("proc/net/tcp6", "   0: 00000000000000000000000000000000:1F0A 0:0000 0A\n")
    output = succeeded(host.give_back(A_SLEEP_COUNTS_AS="0"))
    said = (
        "web-1: its Docker left the swarm but still listens on port 2377 or 7946; restart it there: systemctl restart"
    )
    assert output.count(said) == 1
    assert not host.notes.exists()


def test_an_installed_docker_is_removed_with_its_packages_data_and_traces(host: Host) -> None:
    adopted(host)
    lines = ["package runc", "package docker.io", "group docker", "file /etc/docker/daemon.json", "folder /etc/docker"]
    lines += ["data /var/lib/docker 751", "folder /var/lib/containerd", "forwarding 0", "policy ACCEPT"]
    (host.notes / "changes").write_text("".join(f"{line.replace(' /', f' {host.files}/')}\n" for line in lines))
    for path in ("etc/docker/daemon.json", "etc/docker/key.json", "var/lib/docker/image/x", "var/lib/containerd/x"):
        host.file(path)
    host.file("proc/sys/net/ipv4/ip_forward", "1\n")
    (host.files / "sys/class/net/docker0").mkdir(parents=True)
    host.world.stub("node", "iptables-restore", '#!/bin/sh\ncat >"$STUBS/rules"\n')
    host.world.plan(Answer("web-1: ip link delete docker0"), *GIVES_BACK)
    succeeded(host.give_back())
    assert [order for order in host.orders() if not order.startswith("docker ")] == [
        "systemctl cat docker.service",
        "systemctl stop docker.socket docker.service containerd.service",
        "ip link delete docker0",
        "iptables-save ",
        f"{APT} remove runc docker.io",
        f"{APT} purge runc docker.io",
        "groupdel docker",
    ]
    assert (host.world.stubs / "rules").read_text() == (
        ":FORWARD ACCEPT [0:0]\n:DOCKER_OUTPUT - [0:0]\n-A INPUT -j ACCEPT\n"
    )
    assert not (host.files / "etc/docker").exists()
    assert list((host.files / "var/lib").iterdir()) == [host.files / "var/lib/docker"]
    assert stat.S_IMODE((host.files / "var/lib/docker").stat().st_mode) == 0o751
    assert (host.files / "proc/sys/net/ipv4/ip_forward").read_text() == "0\n"


def test_packages_that_others_need_by_now_stay(host: Host) -> None:
    adopted(host)
    (host.notes / "changes").write_text("package runc\npackage docker.io\n")
    host.world.plan(
        Answer("web-1: apt-get -s purge *", "Purg owners-thing [1]\nPurg docker.io [20]\nPurg runc [1]\n"), *GIVES_BACK
    )
    output = succeeded(host.give_back())
    assert "web-1: keeping these packages: removing them would also remove owners-thing: runc docker.io\n" in output
    assert not [order for order in host.orders() if "apt-get" in order]


@pytest.mark.parametrize("record", ["host", "draft"])
def test_a_host_of_another_owner_is_not_changed_by_a_delete(host: Host, record: str) -> None:
    (host.world.create("web-1") / "adopted").touch()
    host.file(f"srv/swarm-site/{record}/owner", "ANOTHER web-1\n")
    host.file(f"srv/swarm-site/{record}/whose", "stack blue of ann@there\n")
    before = host.found()
    whose = "stack blue of ann@there" if record == "host" else "a stack that is just adopting it"
    assert f"web-1: belongs to {whose} by now, so it stays as it is\n" in succeeded(host.give_back())
    assert host.orders() == []
    assert host.found() == before
    assert not (host.world.work / "machines/web-1").exists()


def test_a_host_that_its_owner_released_has_nothing_left_to_give_back(host: Host) -> None:
    adopted(host)
    assert host.release().returncode == 0
    asked = len(host.orders())
    assert re.fullmatch(r"web-1: removed in \d+ s\n", succeeded(host.give_back()))
    assert host.orders()[asked:] == []


def test_an_adoption_that_is_cut_off_before_its_record_has_changed_nothing(host: Host) -> None:
    """No release script exists on the host yet, and none is needed."""
    host.without("docker")
    before = host.found()
    host.world.stub("node", "mv", "#!/bin/sh\nexit 137\n")
    host.world.plan(*INSTALLS, *THERE)
    assert host.adopt().returncode == 1
    assert host.orders() == [f"{APT} update"]
    left = {path for path in host.found() if path not in before}
    assert {path.split("/draft")[0] for path in left} == {"srv/swarm-site"}
    assert {path: text for path, text in host.found().items() if path in before} == before
    assert host.mark.exists()

    assert re.fullmatch(r"web-1: removed in \d+ s\n", succeeded(host.give_back()))
    assert host.orders() == [f"{APT} update"]
    assert host.found() == before
    assert not host.mark.exists()


def test_a_release_that_is_cut_off_at_its_end_is_finished_by_the_next_delete(host: Host) -> None:
    adopted(host)
    host.world.stub("node", "mv", '#!/bin/sh\n/bin/mv "$@"\nkill -9 $PPID\n')
    assert "can't be given back" in refused(host.give_back())
    assert (host.files / "srv/swarm-site/draft/owner").exists()
    (host.files / "srv/swarm-site/draft/owner").unlink()
    succeeded(host.give_back())
    assert list((host.files / "srv").iterdir()) == []


def test_a_refused_host_is_not_asked_by_its_delete(host: Host) -> None:
    host.world.plan(Answer("web-1: uname -n", "www\n"), *THERE)
    refused(host.adopt())
    asked = len(host.world.connections())
    succeeded(host.give_back())
    assert len(host.world.connections()) == asked


def test_a_stacks_folder_without_a_record_is_not_forgotten(host: Host) -> None:
    adopted(host)
    shutil.rmtree(host.notes)
    before = host.found()
    error = refused(host.give_back())
    assert f"/srv/swarm-site exists, but not the record of its adoption, {host.notes}; if the stack left" in error
    assert error.endswith("remove that folder; then run again: make down\n")
    assert host.found() == before
    assert host.mark.exists()


def test_a_host_whose_folder_here_was_lost_is_given_back(host: Host) -> None:
    adopted(host)
    shutil.rmtree(host.world.work / "machines/web-1")
    succeeded(host.give_back())
    assert "docker swarm leave --force" in host.orders()
    assert list((host.files / "srv").iterdir()) == []
    assert not (host.world.work / "machines/web-1").exists()


def test_without_the_stacks_key_a_host_is_neither_given_back_nor_forgotten(host: Host) -> None:
    adopted(host)
    shutil.rmtree(host.world.work)
    error = refused(host.give_back())
    assert re.match(
        r"web-1: can't be given back: it belongs to stack dev of \w+@\S+, and .work/dev/identity, which", error
    )
    assert f"is missing; run on the host: sudo bash {host.notes}/release, then here: make down\n" in error
    assert host.orders() == []
    assert host.release().returncode == 0
    succeeded(host.give_back())


@pytest.mark.parametrize("answer", ["", "echo 'Welcome to web-1'"])
def test_a_host_that_does_not_tell_whose_it_is_is_not_forgotten(host: Host, answer: str) -> None:
    adopted(host)
    host.world.stub("node", "sudo", f'#!/bin/sh\ncase "$*" in *ownership*) {answer or ":"} ;; *) exec "$@" ;; esac\n')
    assert "can't be given back: it does not tell whose it is (" in refused(host.give_back())
    assert host.orders() == []
    assert host.mark.exists()


def test_a_dead_host_does_not_block_its_delete(host: Host) -> None:
    adopted(host)
    host.world.kill("web-1")
    output = succeeded(host.give_back())
    assert output.startswith(
        "web-1: does not answer (ssh: connect to host web-1 port 22: No route to host); "
        "it keeps what the stack put there until this runs on it: sudo bash "
    )
    assert host.orders() == []
    assert not (host.world.work / "machines/web-1").exists()


def test_the_error_of_ssh_takes_one_line(host: Host) -> None:
    adopted(host)
    host.world.stub("here", "ssh", SAYING)
    output = succeeded(host.give_back(SSH_SAYS="kex_exchange: closed\r\nConnection timed out\r\n"))
    assert output.startswith("web-1: does not answer (Connection timed out); it keeps")
    assert "\r" not in output


def test_a_host_that_was_never_entered_is_not_asked_by_its_delete(host: Host) -> None:
    host.world.kill("web-1")
    refused(host.adopt())
    asked = len(host.world.connections())
    assert re.fullmatch(r"web-1: removed in \d+ s\n", succeeded(host.give_back()))
    assert len(host.world.connections()) == asked


@pytest.mark.parametrize("says", ["admin@web-1: Permission denied (publickey).", "Host key verification failed."])
def test_a_living_host_that_refuses_the_login_is_not_forgotten(host: Host, says: str) -> None:
    adopted(host)
    host.world.stub("here", "ssh", SAYING)
    error = refused(host.give_back(SSH_SAYS=says))
    assert error == (
        f"web-1: can't be given back: it answers but rejects this user's login ({says}); "
        "when make ssh NODE=web-1 logs in, run again: make down\n"
    )
    assert (host.world.work / "machines/web-1/adopted").exists()


def test_the_release_script_on_the_host_needs_nothing_else(host: Host) -> None:
    adopted(host)
    assert host.moved(in_place("hosts/release.sh")) == (host.notes / "release").read_text()
    done = host.release()
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker swarm leave --force" in host.orders()
    assert list((host.files / "srv").iterdir()) == []


def test_the_release_script_can_leave_the_swarm_and_do_no_more(host: Host) -> None:
    adopted(host)
    before = host.found()
    assert host.release("leave").returncode == 0
    assert host.orders() == ["docker swarm leave --force"]
    assert {path: text for path, text in host.found().items() if path in before} == before


def test_another_adoption_stores_todays_release_script(host: Host) -> None:
    succeeded(host.adopt())
    record = host.changes()
    (host.notes / "release").write_text("exit 1\n")
    succeeded(host.adopt())
    assert host.moved(in_place("hosts/release.sh")) == (host.notes / "release").read_text()
    assert host.changes() == record


@pytest.mark.parametrize("installed", [True, False])
def test_changed_docker_settings_wait_for_a_restart_of_docker(host: Host, installed: bool) -> None:
    succeeded(host.adopt())
    settings = host.file("etc/docker/daemon.json", '{"storage-driver": "overlay2"}\n')
    if installed:
        with (host.notes / "changes").open("a") as record:
            record.write(f"file {settings}\nforwarding 0\n")
    host.world.plan(*GIVES_BACK, *THERE)
    said = "web-1: Docker's settings have changed and apply from its next start: systemctl restart docker\n"
    assert (said in succeeded(host.adopt())) == installed
    assert (settings.read_text() == (TEMPLATES / SETTINGS).read_text()) == installed
    assert not [order for order in host.orders() if "restart" in order]
    assert said not in succeeded(host.adopt())


def test_a_failed_return_can_be_run_again(host: Host) -> None:
    adopted(host)
    host.world.plan(Answer("web-1: docker swarm leave --force", "it is stuck\n", status=1), *GIVES_BACK)
    error = refused(host.give_back())
    assert error == (
        "web-1: can't be given back: it is stuck (log: .work/dev/machines/web-1/log); "
        "fix the cause and run again: make down\n"
    )
    assert host.notes.exists()
    host.world.plan(*GIVES_BACK)
    succeeded(host.give_back())
    assert not host.notes.exists()


def test_hosts_leave_the_swarm_one_after_another(host: Host) -> None:
    adopted(host)
    with (host.world.work / "locks/hosts").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = host.give_back({"flock -w 600 8": "flock -w 0 8"})
    assert "other hosts are still leaving the swarm after 600 s" in refused(done)
    assert host.orders() == []


def test_the_sweep_gives_back_leftover_hosts(host: Host) -> None:
    adopted(host)
    assert succeeded(host.delete("machines/sweep.sh", NODE="")) == "web-1: removed leftover machine\n"
    assert list((host.files / "srv").iterdir()) == []
    assert not host.world.work.exists()


def test_a_host_is_neither_started_nor_powered_off(host: Host) -> None:
    assert succeeded(host.script("machines/power.sh", ACTION="state")) == "unknown\n"
    assert succeeded(host.script("machines/power.sh", ACTION="off")) == ""
    assert host.world.calls() == []


def test_the_stacks_folder_of_hosts_needs_neither_vagrant_nor_a_network(bare: World) -> None:
    (bare.stubs / "here/vagrant").unlink()
    inputs = {key: value for key, value in STACK_FOLDER.items() if key not in ("NETWORK", "MEMORY_WANTED")}
    succeeded(bare.script("machines/stack_folder.sh", **inputs, PROVIDER="ssh"))
    assert bare.calls() == ["here: docker info"]
    assert (bare.work / "provider").read_text() == "ssh\n"
