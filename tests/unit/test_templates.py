"""Every file of `templates/`: rendered, compared with its golden file, and checked by the tool it is written for."""

import configparser
import difflib
import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from components.backend import HEALTH_PATH
from components.config import PRIVATE_NETWORKS, HostSettings, Node
from components.proxy import configuration
from components.rendering import TEMPLATES, render
from tests.unit.harness import NETWORK, ROOT, proxy_settings

GOLDEN = Path(__file__).parent / "golden"
WORK = ".work/dev"
NODE = Node(name="core-02", address="192.168.56.12", role="manager", proxy=True, memory=512, cpus=1)
BOX = "localhost/site/node:0123456789ab"
ENDPOINTS = ["192.168.56.11:8080", "192.168.56.12:8080"]


def existing(host: HostSettings, role: Literal["manager", "worker"], *, proxy: bool) -> Node:
    """A node that is a host of the settings."""
    return Node(name=host.name, address=host.address, role=role, proxy=proxy, host=host)


HOST = HostSettings(name="web-2", address="192.0.2.12", user="admin", port=2222, jump="me@bastion.example:2200")
HOSTS = [
    existing(HostSettings(name="web-1", address="192.0.2.11"), "manager", proxy=False),
    existing(HOST, "manager", proxy=True),
    existing(HostSettings(name="web-3", address="192.0.2.13"), "worker", proxy=True),
]


def vagrantfile(provider: str) -> str:
    return render("machines/Vagrantfile", provider=provider, stack="dev", node=NODE, box=BOX, network=NETWORK)


RENDERED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("docker")),
    "libvirt.Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("libvirt")),
    "virtualbox.Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("virtualbox")),
    "machine.ssh_config": (
        "machines/ssh_config",
        lambda: render("machines/ssh_config", work=WORK, node=NODE, patience=1),
    ),
    "host.ssh_config": (
        "machines/host_ssh_config",
        lambda: render("machines/host_ssh_config", work=WORK, node=HOSTS[1]),
    ),
    "hosts-manager.ssh_config": (
        "swarm/hosts_ssh_config",
        lambda: render("swarm/hosts_ssh_config", work=WORK, nodes=HOSTS),
    ),
    "hosts-connect": ("swarm/hosts_connect.sh", lambda: render("swarm/hosts_connect.sh", work=WORK)),
    "manager.ssh_config": ("swarm/ssh_config", lambda: render("swarm/ssh_config", work=WORK, patience=1)),
    "connect": ("swarm/connect.sh", lambda: render("swarm/connect.sh", work=WORK)),
    "backend.nginx.conf": (
        "backend/nginx.conf",
        lambda: render("backend/nginx.conf", root="/srv/swarm-site/content/current", health_path=HEALTH_PATH),
    ),
    "proxy.nginx.conf": ("proxy/nginx.conf", lambda: configuration(proxy_settings(), ENDPOINTS)[0]),
    "proxy-seed.nginx.conf": ("proxy/nginx.conf", lambda: configuration(proxy_settings(), [])[0]),
}
"""Golden file, its template, and how it is rendered."""

SCRIPTS = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.sh"))
MADE_BY = ["docker", "libvirt", "virtualbox"]
"""Vagrant's providers."""
PROVIDERS = [*MADE_BY, "ssh"]
"""What a machine is made by: each has a file of the functions that the machines' scripts include by its name."""
PARTS = {"machines/user_ssh_config", *(f"machines/{provider}.rb" for provider in MADE_BY)}
"""What rendered files include: the Vagrantfile by the provider's name, ssh entries of hosts that exist."""
INCLUDED = {f"machines/{provider}.sh" for provider in PROVIDERS} | {
    name for path in TEMPLATES.rglob("*.sh") for name in re.findall(r'@% include "([^"]*[.]sh)" %@', path.read_text())
}
WHOLE = [
    (name, provider)
    for name in SCRIPTS
    if name not in INCLUDED
    for provider in (PROVIDERS if "~ provider ~" in (TEMPLATES / name).read_text() else ["docker"])
    if (name, provider) != ("machines/box.sh", "docker")  # its image is all the box there is
]
"""Scripts that are run, of each provider where they differ; what they include is checked as a part of them."""

RECIPE_SCRIPTS = [
    *("images/base/install", "images/base/trim", "images/nginx/collect", "images/node/finish"),
    *("images/machine/finish-machine", "images/machine/provision"),
]
RECIPE_DATA = {
    "images/base/Dockerfile",
    "images/machine/Dockerfile",
    "images/machine/files/etc/initramfs-tools/conf.d/node.conf",
    "images/machine/files/etc/initramfs-tools/modules",
    "images/machine/files/etc/sysctl.d/node.conf",
    "images/machine/files/etc/systemd/network/node.network",
    "images/machine/files/etc/systemd/system/stack-key.service",
    "images/machine/packages",
    "images/nginx/Dockerfile",
    "images/nginx/files/etc/group",
    "images/nginx/files/etc/nginx/nginx.conf",
    "images/nginx/files/etc/passwd",
    "images/nginx/files/usr/share/nginx/html/index.html",
    "images/nginx/packages",
    "images/node/Dockerfile",
    "images/node/files/etc/default/locale",
    "images/node/files/etc/docker/daemon.json",
    "images/node/files/etc/ssh/sshd_config",
    "images/node/files/etc/sudoers.d/vagrant",
    "images/node/files/etc/systemd/journald.conf.d/node.conf",
    "images/node/files/etc/systemd/system.conf.d/node.conf",
    "images/node/files/etc/systemd/system/docker.service.d/node.conf",
    "images/node/files/etc/systemd/system/ssh-host-keys.service",
    "images/node/packages",
    "images/node/unwanted",
}


def test_every_template_is_checked_by_a_test_of_this_file() -> None:
    there = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file()}
    checked = {*SCRIPTS, *RECIPE_SCRIPTS, *RECIPE_DATA, *PARTS}
    checked |= {template for template, _ in RENDERED.values()}
    assert there - checked == set(), "a new template needs a test"
    assert checked - there == set(), "a template that is gone leaves no test behind"


# --- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_file_is_its_golden_file(name: str) -> None:
    text, golden = RENDERED[name][1](), GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text)
    expected = golden.read_text() if golden.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), text.splitlines(), "golden", "rendered", "", "", 1)
    )
    assert text == expected, f"{name} is another now; if it should be, run with UPDATE_GOLDEN=1:\n{difference}"


def test_there_is_no_golden_file_that_nothing_is_compared_with() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(RENDERED)


# --- scripts ---------------------------------------------------------------------------------------------------------


def script(name: str, provider: str = "docker") -> str:
    return render(name, work=WORK, provider=provider)


@pytest.mark.parametrize(("name", "provider"), [*WHOLE, ("lib.sh", "docker")])
def test_a_script_begins_with_strict_mode(name: str, provider: str) -> None:
    lines = [line for line in script(name, provider).splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail"


@pytest.mark.parametrize("name", sorted(INCLUDED - {"lib.sh"}))
def test_what_scripts_include_only_defines_functions(name: str) -> None:
    outside = re.sub(r"(?ms)^\w+\(\) \{\n.*?^\}\n", "", script(name))
    left = [line for line in outside.splitlines() if line and not line.startswith("#")]
    assert [line for line in left if not re.fullmatch(r"\w+\(\) \{.*\}", line)] == []


FUNCTIONS = {
    *("check_host", "check_room", "make_network", "remove_network", "is_current", "make_machine", "remove_machine"),
    *("left_over", "power"),
}
"""What CONTRIBUTING.md asks of a provider."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_has_every_function_that_is_asked_of_it(provider: str) -> None:
    defined = set(re.findall(r"(?m)^(\w+)\(\) \{", script(f"machines/{provider}.sh")))
    assert defined >= FUNCTIONS


def test_every_script_passes_shellcheck(tmp_path: Path) -> None:
    files = []
    for name, provider in WHOLE:
        files.append(tmp_path / f"{provider}-{name.replace('/', '-')}")
        files[-1].write_text(script(name, provider))
    for name in RECIPE_SCRIPTS:
        files.append(tmp_path / name.replace("/", "-"))
        shutil.copy(TEMPLATES / name, files[-1])
    bash, sh = files[: len(WHOLE)], files[len(WHOLE) :]
    for shell, sources in (("bash", bash), ("sh", sh)):
        done = checked_by("shellcheck", "--format=gcc", "-s", shell, *map(str, sources))
        assert done.returncode == 0, done.stdout.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("name", RECIPE_SCRIPTS)
def test_a_script_of_a_recipe_stops_at_its_first_error(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert text.startswith("#!/bin/sh\n")
    assert lines[0] == "set -eu"


def test_no_script_turns_a_failure_into_a_success_without_a_word() -> None:
    """`|| true` stands only where what failed does not matter, or is in a log; each place is known here."""
    known = {
        # Nothing to end: ssh's shared connection.
        ("machines/docker.sh", 'ssh -F "$folder/ssh_config" -O exit'),
        ("machines/libvirt.sh", 'ssh -F "$folder/ssh_config" -O exit'),
        ("machines/virtualbox.sh", 'ssh -F "$folder/ssh_config" -O exit'),
        # It has ended by itself; that it is gone is waited for.
        ("machines/vagrant.sh", 'xargs -r kill -s "$signal"'),
        # What is switched off already, or started; what comes next fails where it matters.
        ("machines/libvirt.sh", 'net-destroy "$own"'),
        ("machines/libvirt.sh", 'pool-start "$own"'),
        ("machines/libvirt.sh", 'destroy "$own-$1"'),
        ("machines/virtualbox.sh", 'controlvm "$machine" poweroff'),
        ("machines/virtualbox.sh", "sed -n 's/^VMState"),
        ("machines/box.sh", 'docker rm -f "$container"'),
        ("machines/ssh.sh", 'ssh -F "$folder/ssh_config" -O exit'),
        # Docker takes it away itself; what stays is asked for again.
        ("machines/ssh.sh", "words=$(xargs docker rm -fv"),
        ("machines/sweep.sh", 'ssh -O exit -o ControlPath="$socket"'),
        # What did not arrive is told by its hash.
        ("content/release.sh", 'tar -c -C "$FOLDER"'),
        ("swarm/running.sh", "grep -vxF"),
        ("swarm/leave.sh", "grep -c '"),
        ("proxy/configure.sh", "grep -E '"),
        # An image that a container has stays; an entry that can not be demoted may still be removed.
        ("images/deliver.sh", "xargs -r -n 1 docker image rm"),
        ("swarm/manager.sh", 'words=$(docker node demote "$id" 2>&1)'),
        ("proxy/configure.sh", "before=$(readlink current"),
    }
    found = [
        (name, line.strip())
        for name in SCRIPTS
        for line in (TEMPLATES / name).read_text().splitlines()
        if re.search(r"\|\| (true|:)(\W|$)|; true\b", line) and '>>"$LOG"' not in line
    ]
    used = {(file, part) for file, part in known for name, line in found if name == file and part in line}
    assert [one for one in found if not any(one[0] == file and part in one[1] for file, part in known)] == []
    assert known - used == set(), "a place that is gone leaves no exception behind"


# --- the tools that read the files -----------------------------------------------------------------------------------


def checked_by(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(tool)
    assert program, f"{tool} is not installed, and this test is worth nothing without it; run: tools/setup check"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("provider", MADE_BY)
def test_the_vagrantfile_is_ruby(tmp_path: Path, provider: str) -> None:
    (tmp_path / "Vagrantfile").write_text(vagrantfile(provider))
    done = checked_by("ruby", "-wc", str(tmp_path / "Vagrantfile"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Syntax OK\n", "")


def test_the_vagrantfile_says_to_vagrant_what_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "Vagrantfile").write_text(RENDERED["Vagrantfile"][1]())
    (tmp_path / "vagrant.rb").write_text(RECORDING_VAGRANT)
    done = checked_by("ruby", "-r", str(tmp_path / "vagrant.rb"), str(tmp_path / "Vagrantfile"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["vm.hostname="] == [["core-02"]]
    own = {"name": "swarm-site-dev", "ip": "192.168.56.12", "netmask": 24}
    assert ["private_network", own] in said["vm.network"]
    assert all(words[-1].get("disabled") for words in said["vm.network"] if words[0] == "forwarded_port")
    assert said["ssh.insert_key="] == [[False]]
    assert said["image="] == [[BOX]]
    assert said["name="] == [["swarm-site-dev-core-02"]]
    ((create_args,),) = said["create_args="]
    assert {"--hostname=core-02", "--memory=512m", "--cpus=1", "--cgroupns=host"} <= set(create_args)
    assert "--privileged" not in create_args
    ((key,),) = said["ssh.private_key_path="]
    assert Path(key) == tmp_path.parents[1] / "key"


RECORDING_VAGRANT = """
require "json"
class Recorder
  SAID = {}
  def initialize(path = []) = @path = path
  def method_missing(name, *words, **named, &block)
    words << named unless named.empty?
    if block then block.call(Recorder.new)
    elsif words.empty? then return Recorder.new(@path + [name])
    else (SAID[(@path + [name]).join(".")] ||= []) << words
    end
  end
  def respond_to_missing?(*) = true
end
module Vagrant
  def self.configure(version)
    raise "configuration version #{version}" unless version == "2"
    yield Recorder.new
  end
end
at_exit { puts JSON.dump(Recorder::SAID) }
"""


def ssh_options(path: Path, host: str) -> dict[str, str]:
    done = checked_by("ssh", "-F", str(path), "-G", host)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_ssh_reads_the_entry_of_a_machine(tmp_path: Path) -> None:
    path = tmp_path / "ssh_config"
    path.write_text(RENDERED["machine.ssh_config"][1]())
    options = ssh_options(path, "core-02")
    assert options["hostname"] == "192.168.56.12"
    assert options["user"] == "vagrant"
    assert options["identityfile"] == ".work/dev/key"
    assert options["identitiesonly"] == "yes"
    assert options["userknownhostsfile"] == ".work/dev/machines/core-02/known_hosts"
    assert options["stricthostkeychecking"] == "accept-new"
    assert options["batchmode"] == "yes"
    assert int(options["connecttimeout"]) <= 5
    assert int(options["serveraliveinterval"]) * int(options["serveralivecountmax"]) <= 15
    assert ssh_options(path, "core-03")["hostname"] == "core-03"


def test_ssh_reads_the_alias_of_the_manager(tmp_path: Path) -> None:
    path = tmp_path / "ssh_config"
    path.write_text(RENDERED["manager.ssh_config"][1]())
    options = ssh_options(path, "swarm-manager")
    assert options["proxycommand"] == "bash .work/dev/connect"
    assert options["identityfile"] == ".work/dev/key"
    assert options["user"] == "vagrant"
    assert options["batchmode"] == "yes"


@pytest.fixture
def user(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a user's own ssh configuration in the place of `~/.ssh/config`."""

    def put(text: str) -> Path:
        (tmp_path / "config").write_text(text)
        return tmp_path / "config"

    return put


def host_options(golden: str, host: str, own: Path) -> dict[str, str]:
    """What ssh makes of an entry and of the user's own configuration."""
    path = own.parent / golden
    path.write_text(RENDERED[golden][1]().replace("~/.ssh/config", str(own)))
    return ssh_options(path, host)


def test_ssh_reads_the_entry_of_a_host_that_exists(user: Callable[[str], Path]) -> None:
    options = host_options("host.ssh_config", "web-2", user(""))
    assert options["hostname"] == "192.0.2.12"
    assert (options["user"], options["port"]) == ("admin", "2222")
    assert options["proxyjump"] == "me@bastion.example:2200"
    assert options["stricthostkeychecking"] == "true"
    assert options["batchmode"] == "yes"
    assert options["controlpath"] == ".work/dev/machines/web-2/ssh"
    assert "userknownhostsfile" in options
    assert ".work" not in options["userknownhostsfile"] + options["identityfile"]


def test_the_users_own_entries_count_by_name_and_by_address_but_change_nothing_that_the_settings_say(
    user: Callable[[str], Path],
) -> None:
    own = user(
        "Host web-2\n  CertificateFile /by-name\nHost 192.0.2.12\n  User other\n  Port 9\n  IdentityFile /by-address\n"
        "Host bastion.example\n  Port 7\nHost *\n  StrictHostKeyChecking no\n  RequestTTY force\n  RemoteCommand sh\n"
    )
    options = host_options("host.ssh_config", "web-2", own)
    assert (options["certificatefile"], options["identityfile"]) == ("/by-name", "/by-address")
    assert (options["user"], options["port"]) == ("admin", "2222")
    assert options["stricthostkeychecking"] == "true"
    assert options["requesttty"] == "auto"
    assert "remotecommand" not in options
    assert host_options("host.ssh_config", "bastion.example", own)["port"] == "7"


@pytest.mark.parametrize(("answering", "address"), [("web-1", "192.0.2.11"), ("web-2", "192.0.2.12"), ("none", "")])
def test_the_alias_of_hosts_is_the_first_manager_that_answers(
    user: Callable[[str], Path], tmp_path: Path, answering: str, address: str
) -> None:
    own = user("Host 192.0.2.12\n  IdentityFile /by-address\n")
    connect = tmp_path / "connect"
    connect.write_text(f'echo "$1" >>{tmp_path}/tried; [[ $1 == {answering} ]]')
    path = tmp_path / "ssh_config"
    text = RENDERED["hosts-manager.ssh_config"][1]().replace("~/.ssh/config", str(own))
    path.write_text(text.replace(".work/dev/connect", str(connect)))
    options = ssh_options(path, "swarm-manager")
    tried = (tmp_path / "tried").read_text().split()
    assert tried == (["web-1"] if answering == "web-1" else ["web-1", "web-2"]), "no worker, and none after the first"
    if answering == "none":
        assert options["proxycommand"] == f"bash {connect}"
        return
    assert "proxycommand" not in options
    assert options["hostname"] == address
    assert options["stricthostkeychecking"] == "true"
    if answering == "web-2":
        assert (options["user"], options["port"], options["proxyjump"]) == ("admin", "2222", "me@bastion.example:2200")
        assert options["identityfile"] == "/by-address"


LONGEST = "a" * 30
SOCKET_NAME_LIMIT = 107
SUFFIX_OF_A_NEW_SOCKET = len(".0123456789abcdef")


def shared_socket(text: str, host: str, folder: Path) -> str:
    path = folder / "ssh_config"
    path.write_text(text)
    return ssh_options(path, host)["controlpath"]


def test_the_shared_connection_to_a_machine_fits_into_a_socket_name_for_the_longest_names(tmp_path: Path) -> None:
    node = Node(name=f"{LONGEST}-200", address="192.168.56.210", role="worker", proxy=False, memory=512, cpus=1)
    text = render("machines/ssh_config", work=f".work/{LONGEST}", node=node, patience=1)
    socket = shared_socket(text, node.name, tmp_path)
    assert len(socket) + SUFFIX_OF_A_NEW_SOCKET <= SOCKET_NAME_LIMIT


def test_the_shared_connection_to_the_manager_fits_into_a_socket_name_for_the_longest_names(tmp_path: Path) -> None:
    socket = shared_socket(render("swarm/ssh_config", work=f".work/{LONGEST}", patience=1), "swarm-manager", tmp_path)
    assert len(socket) + SUFFIX_OF_A_NEW_SOCKET <= SOCKET_NAME_LIMIT


# --- nginx -----------------------------------------------------------------------------------------------------------


def nginx() -> Path:
    """The nginx that set-up unpacked: it is never installed, so its files are beside it and not in /etc."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "swarm-site/nginx/usr/sbin"
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:{cache}:/usr/sbin")
    assert found, "there is no nginx to test configurations with; run: tools/setup check"
    return Path(found).resolve()


def words_of_nginx(text: str, folder: Path) -> str:
    """Let nginx test a configuration. Ports, accounts and folders are those of this test, not of a container."""
    program = nginx()
    moved = {"etc/nginx": program.parents[2] / "etc/nginx", "tmp": folder, "run": folder}
    here = re.sub(r"(?<![\w.])/(etc/nginx|tmp|run)/", lambda match: f"{moved[match[1]]}/", text)
    here = re.sub(r"(?m)^user .*;$", "", here)
    here = re.sub(r"(?m)^(\s*listen) \d+", r"\1 18099", here)
    path = folder / "nginx.conf"
    path.write_text(here)
    done = subprocess.run([program, "-t", "-p", folder, "-c", path], capture_output=True, text=True, check=False)
    assert "[emerg]" not in done.stderr, done.stderr
    assert "[warn]" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("name", [name for name in RENDERED if name.endswith("nginx.conf")])
def test_nginx_takes_the_configuration(name: str, tmp_path: Path) -> None:
    assert "test is successful" in words_of_nginx(RENDERED[name][1](), tmp_path)


def test_nginx_takes_the_configuration_of_a_bare_container(tmp_path: Path) -> None:
    text = (TEMPLATES / "images/nginx/files/etc/nginx/nginx.conf").read_text()
    # In the image they are where Debian's nginx has them; here there is no such folder.
    folders = "".join(
        f"{kind}_temp_path /tmp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    assert "test is successful" in words_of_nginx(text.replace("http {", f"http {{\n{folders}"), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 1, "max_body_size": "0", "connect_timeout_ms": 50, "read_timeout_s": 1, "fail_timeout_s": 1},
        {"port": 65535, "max_body_size": "999999k", "connect_timeout_ms": 60000, "read_timeout_s": 3600},
        {"max_body_size": "1g", "fail_timeout_s": 600},
    ],
    ids=["smallest", "largest", "other units"],
)
def test_nginx_takes_the_settings_at_their_edges(settings: dict[str, object], tmp_path: Path) -> None:
    words_of_nginx(configuration(proxy_settings(**settings), ENDPOINTS)[0], tmp_path)


def test_nginx_takes_as_many_backends_as_there_can_be(tmp_path: Path) -> None:
    endpoints = [f"192.168.56.{number}:8080" for number in range(11, 211)]
    assert len(endpoints) == 200
    words_of_nginx(configuration(proxy_settings(), endpoints)[0], tmp_path)


def test_nginx_would_refuse_a_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknown directive"):
        words_of_nginx(RENDERED["proxy.nginx.conf"][1]().replace("proxy_pass", "proxy_pas"), tmp_path)


def test_a_proxy_tries_every_backend_before_it_gives_up() -> None:
    text = RENDERED["proxy.nginx.conf"][1]()
    assert "proxy_next_upstream error timeout http_502 http_503 http_504;" in text
    assert "proxy_next_upstream_tries 0;" in text
    assert re.search(r"zone backends \d+k;", text)
    assert "keepalive 32;" in text
    assert "listen 80 reuseport;" in text


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["nginx", "node"])
def test_the_packages_of_a_recipe_are_sorted_names(recipe: str) -> None:
    lines = (TEMPLATES / "images" / recipe / "packages").read_text().splitlines()
    assert lines == sorted(set(lines))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line) for line in lines)


def test_what_a_node_does_not_want_is_a_list_of_whole_paths() -> None:
    lines = (TEMPLATES / "images/node/unwanted").read_text().splitlines()
    assert len(lines) == len(set(lines))
    # Each line goes behind a root folder into `rm -rf`.
    assert all(re.fullmatch(r"/usr(/[\w.*+-]+)+", line) and ".." not in line for line in lines)


@pytest.mark.parametrize(
    ("recipe", "words"), [("nginx", ["nginx", "-g", "daemon off;"]), ("node", ["/lib/systemd/systemd"])]
)
def test_a_dockerfile_builds_on_its_base_and_names_its_command(recipe: str, words: list[str]) -> None:
    text = (TEMPLATES / "images" / recipe / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "ARG BASE"
    assert lines[1].startswith("FROM ${BASE}")
    known = {"ARG", "FROM", "COPY", "RUN", "ENV", "EXPOSE", "STOPSIGNAL", "CMD"}
    assert {line.split()[0] for line in lines} <= known
    assert json.loads(lines[-1].removeprefix("CMD ")) == words


def test_the_nodes_docker_keeps_out_of_every_network_that_the_settings_allow() -> None:
    daemon = json.loads((TEMPLATES / "images/node/files/etc/docker/daemon.json").read_text())
    assert daemon["no-new-privileges"] is True
    assert daemon["live-restore"] is False, "a swarm's manager can't have it"
    bridges = [ipaddress.IPv4Interface(daemon["bip"]).network]
    bridges += [ipaddress.IPv4Network(pool["base"]) for pool in daemon["default-address-pools"]]
    for bridge in bridges:
        assert not any(bridge.overlaps(network) for network in PRIVATE_NETWORKS)


def test_sshd_of_a_node_lets_in_the_stacks_key_and_nothing_else() -> None:
    text = (TEMPLATES / "images/node/files/etc/ssh/sshd_config").read_text()
    pairs = [
        (line.split(None, 1)[0], line.split(None, 1)[1])
        for line in text.splitlines()
        if line and not line.startswith("#")
    ]
    options: dict[str, str] = dict(pairs)
    names = [name for name, _ in pairs if name != "HostKey"]
    assert len(names) == len(set(names)), "sshd takes the first of two, and says nothing"
    assert options["AuthenticationMethods"] == "publickey"
    assert options["PasswordAuthentication"] == options["KbdInteractiveAuthentication"] == "no"
    assert options["PermitRootLogin"] == "no"
    assert options["AllowUsers"] == "vagrant"
    assert "/etc/ssh/authorized_keys/%u" in options["AuthorizedKeysFile"].split()
    assert "/etc/ssh/authorized_keys:ro" in RENDERED["Vagrantfile"][1]()


def test_every_unit_of_a_node_is_well_formed() -> None:
    units = [name for name in RECIPE_DATA if "/systemd/" in name]
    assert len(units) == 6
    for name in units:
        parser = configparser.ConfigParser(interpolation=None, delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string((TEMPLATES / name).read_text())
        assert set(parser.sections()) <= {"Unit", "Service", "Install", "Manager", "Journal", "Match", "Network"}
        assert all(parser[section] for section in parser.sections())


def test_the_user_of_the_nodes_needs_no_password_for_root() -> None:
    assert (TEMPLATES / "images/node/files/etc/sudoers.d/vagrant").read_text() == "vagrant ALL=(ALL) NOPASSWD: ALL\n"
    assert (TEMPLATES / "images/node/files/etc/default/locale").read_text() == "LANG=C.UTF-8\n"


def test_the_accounts_of_the_nginx_image_are_well_formed_and_hold_no_password() -> None:
    folder = TEMPLATES / "images/nginx/files/etc"
    users = [line.split(":") for line in (folder / "passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (folder / "group").read_text().splitlines()]
    assert {len(user) for user in users} == {7}
    assert {len(group) for group in groups} == {4}
    assert {user[1] for user in users} | {group[1] for group in groups} == {"x"}
    assert {user[3] for user in users} <= {group[2] for group in groups}
    assert "nginx" in {user[0] for user in users}
    assert (folder.parent / "usr/share/nginx/html/index.html").read_text().startswith("<!doctype html>\n")


def test_every_file_of_a_recipe_ends_with_a_line_feed_and_has_no_tab_or_blank_at_a_lines_end() -> None:
    for name in [*RECIPE_DATA, *RECIPE_SCRIPTS, *SCRIPTS]:
        text = (TEMPLATES / name).read_text()
        assert text.endswith("\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), name


def test_the_site_out_of_the_box_is_there() -> None:
    assert (ROOT / "site/index.html").read_text().lower().startswith("<!doctype html>")
