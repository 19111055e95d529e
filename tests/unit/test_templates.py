"""Every file of `templates/`: rendered, compared with its golden file, and checked by the tool it is written for."""

import configparser
import difflib
import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest

from components.application import configuration as application_configuration
from components.contract import (
    FOLDER_CONTENT,
    FOLDER_SITE,
    PROJECT,
    MachineFile,
    shell_names,
    shell_text,
    stack_files,
)
from components.proxy import configuration
from components.rendering import TEMPLATES, render
from components.scripts import SOURCED
from components.service import START, Route, capacity
from components.settings import ContentSettings, HostSettings, Node, ProxySettings
from components.settings.types import PRIVATE_NETWORKS
from tests.unit.servers import nginx

GOLDEN = Path(__file__).parent / "golden"
WORK = ".work/dev"
NODE = Node(name="core-02", address="192.168.56.12", role="manager", proxy=True, memory=512, cpus=1)
NETWORK = ipaddress.IPv4Network("192.168.56.0/24")
BOX = "localhost/site/node:0123456789ab"
ENDPOINTS = ["192.168.56.11:8080", "192.168.56.12:8080"]
BACKEND = Route(name="backend", hosts=[], endpoints=ENDPOINTS, read_timeout=2)
APPLICATIONS = [
    Route(name="docs", hosts=["docs.example", "www.docs.example"], endpoints=["192.168.56.12:8081"], read_timeout=2),
    Route(name="internal", hosts=[], endpoints=["192.168.56.12:8082"], read_timeout=2),
    Route(name="shop", hosts=["shop.example"], endpoints=["192.168.56.11:8083", "192.168.56.12:8083"], read_timeout=2),
]


def adopted(host: HostSettings, role: Literal["manager", "worker"], *, proxy: bool) -> Node:
    """Return a node that is a host of the settings."""
    return Node(name=host.name, address=host.address, role=role, proxy=proxy, host=host)


HOST = HostSettings(name="web-2", address="192.0.2.12", user="admin", port=2222, jump="me@bastion.example:2200")
HOSTS = [
    adopted(HostSettings(name="web-1", address="192.0.2.11"), "manager", proxy=False),
    adopted(HOST, "manager", proxy=True),
    adopted(HostSettings(name="web-3", address="192.0.2.13"), "worker", proxy=True),
]


def vagrantfile(provider: str) -> str:
    return render("machines/Vagrantfile", provider=provider, stack="dev", node=NODE, box=BOX, network=NETWORK)


def proxy(routes: Sequence[Route], **settings: object) -> str:
    """Return the configuration of a proxy."""
    return configuration(ProxySettings.model_validate(settings), routes)[0]


RENDERED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("docker")),
    "libvirt.Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("libvirt")),
    "virtualbox.Vagrantfile": ("machines/Vagrantfile", lambda: vagrantfile("virtualbox")),
    "machine.ssh_config": (
        "machines/ssh_config",
        lambda: render("machines/ssh_config", work=WORK, node=NODE, timeout_factor=1),
    ),
    "host.ssh_config": (
        "machines/host_ssh_config",
        lambda: render("machines/host_ssh_config", work=WORK, node=HOSTS[1]),
    ),
    "hosts-manager.ssh_config": (
        "swarm/hosts_ssh_config",
        lambda: render("swarm/hosts_ssh_config", work=WORK, nodes=HOSTS),
    ),
    "manager.ssh_config": ("swarm/ssh_config", lambda: render("swarm/ssh_config", work=WORK, timeout_factor=1)),
    "application.nginx.conf": (
        "application/nginx.conf",
        lambda: application_configuration(
            ContentSettings(), FOLDER_CONTENT, ["next", "previous/1", "previous/2"], capacity(64, 1)
        ),
    ),
    "proxy.nginx.conf": ("proxy/nginx.conf", lambda: proxy([BACKEND])),
    "proxy-applications.nginx.conf": ("proxy/nginx.conf", lambda: proxy([BACKEND, *APPLICATIONS])),
    "proxy-trusting.nginx.conf": (
        "proxy/nginx.conf",
        lambda: proxy([BACKEND], trusted_networks=["203.0.113.0/24", "2001:db8::/32"]),
    ),
    "proxy-bootstrap.nginx.conf": ("proxy/nginx.conf", lambda: proxy([])),
}
"""Golden file, its template, and its rendering."""

VAGRANT_PROVIDERS = ["docker", "libvirt", "virtualbox"]
PROVIDERS = [*VAGRANT_PROVIDERS, "ssh"]
"""Each has a file with the functions the machine scripts call."""
PARTS = {
    "application/types",
    "machines/user_ssh_config",
    *(f"machines/providers/{provider}.rb" for provider in VAGRANT_PROVIDERS),
}
"""Includes of rendered files: the type list, the Vagrantfile by provider name, ssh entries of hosts."""

SCRIPTS = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.sh"))


def text_of(name: str) -> str:
    return (TEMPLATES / name).read_text()


def sourced_by(name: str) -> set[str]:
    """Return the files a script sources, for every provider where they depend on it."""
    paths = set(SOURCED.findall(text_of(name)))
    return {path.replace("$PROVIDER", provider) for path in paths for provider in PROVIDERS}


LIBRARIES = {path for name in SCRIPTS for path in sourced_by(name)}
"""Scripts sourced by others."""
PROGRAMS = [name for name in SCRIPTS if name not in LIBRARIES]
"""Scripts run directly."""

PLAIN_SCRIPTS = [
    START,
    *("images/base/install", "images/base/trim", "images/nginx/collect", "images/node/finish"),
    *("images/machine/finish-machine", "images/machine/provision"),
]
RECIPE_DATA = {
    "firewall/swarm-site-firewall.service",
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
    "images/node/files/etc/systemd/system/docker-.scope.d/node.conf",
    "images/node/files/etc/systemd/system/docker.service.d/node.conf",
    "images/node/files/etc/systemd/system/ssh-host-keys.service",
    "images/node/packages",
    "images/node/unwanted",
}


def test_every_template_is_checked_by_a_test_of_this_file() -> None:
    present = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file()}
    checked = {*SCRIPTS, *PLAIN_SCRIPTS, *RECIPE_DATA, *PARTS}
    checked |= {template for template, _ in RENDERED.values()}
    assert present - checked == set(), "a new template needs a test"
    assert checked - present == set(), "a removed template leaves no test behind"


# --- golden files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_file_equals_its_golden_file(name: str) -> None:
    text, golden = RENDERED[name][1](), GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text)
    expected = golden.read_text() if golden.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), text.splitlines(), "golden", "rendered", "", "", 1)
    )
    assert text == expected, f"{name} has changed; if it should, run with UPDATE_GOLDEN=1:\n{difference}"


def test_every_golden_file_is_compared_with_something() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(RENDERED)


# --- scripts ----------------------------------------------------------------------------------------------------------


def code(name: str) -> list[str]:
    """Return the lines of a script that are neither empty nor comments."""
    return [line for line in text_of(name).splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script_has_a_shebang_and_strict_mode(name: str) -> None:
    assert text_of(name).startswith("#!/usr/bin/env bash\n")
    assert code(name)[0] == "set -euo pipefail"


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_a_sourced_script_names_its_shell(name: str) -> None:
    assert re.match("# shellcheck shell=bash( |\n)", text_of(name))


HARMLESS = r"\w+\(\) \{.*\}|\. templates/\S+[.]sh|unset( [A-Z_]+)+|[A-Z]+=\w+( [A-Z]+=\w+)*"


@pytest.mark.parametrize("name", sorted(LIBRARIES - {"contract.sh"}))
def test_a_sourced_script_only_defines_functions_and_clears_variables(name: str) -> None:
    outside = re.sub(r"(?ms)^\w+\(\) \{\n.*?^\}\n", "", text_of(name))
    left = [line for line in outside.splitlines() if line and not line.startswith("#")]
    assert [line for line in left if not re.fullmatch(HARMLESS, line)] == []


def test_a_script_sources_files_that_exist() -> None:
    sources = [(name, line) for name in SCRIPTS for line in code(name) if re.match(r"\s*(\.|source) ", line)]
    assert [one for one in sources if not SOURCED.fullmatch(one[1])] == [], "`bundle` puts no other line in place"
    assert set(SCRIPTS) >= LIBRARIES


def test_no_script_is_rendered() -> None:
    assert [name for name in SCRIPTS if re.search("@[{%#]", text_of(name))] == []


PROVIDER_FUNCTIONS = {
    *("check_host", "check_room", "create_network", "remove_network", "is_current", "create_machine", "remove_machine"),
    *("leftovers", "power"),
}
"""Functions CONTRIBUTING.md requires of a provider."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_defines_every_required_function(provider: str) -> None:
    path = f"machines/providers/{provider}.sh"
    text = "".join(map(text_of, [path, *sourced_by(path)]))
    assert set(re.findall(r"(?m)^(\w+)\(\) \{", text)) >= PROVIDER_FUNCTIONS


def test_tools_check_reads_every_script_and_nothing_else() -> None:
    function = re.search(r"(?ms)^files_in\(\) \{\n.*?^\}\n", (PROJECT / "tools/check").read_text())
    assert function
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{function[0]}files_in sh"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = done.stdout.splitlines()
    assert {f"templates/{name}" for name in [*SCRIPTS, *PLAIN_SCRIPTS]} <= set(files)
    first_lines = {file: (PROJECT / file).read_text().partition("\n")[0] for file in files}
    assert [file for file, line in first_lines.items() if not re.match("#!.*sh$|# shellcheck shell=", line)] == []


@pytest.mark.parametrize("name", PLAIN_SCRIPTS)
def test_a_script_of_a_container_or_recipe_stops_at_its_first_error(name: str) -> None:
    assert text_of(name).startswith("#!/bin/sh\n")
    assert code(name)[0] == "set -eu"


def test_no_script_hides_a_failure() -> None:
    """`|| true` only ignores failures that do not matter or that are logged; every use is listed here."""
    known = {
        # Nothing to end: the shared ssh connection, the child of an ending run.
        ("machines/providers/remove/vagrant.sh", 'ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit'),
        # It may have exited already; its end is waited for.
        ("machines/providers/remove/vagrant.sh", 'xargs -r kill -s "$signal"'),
        # Already stopped or started; the next command fails if it matters.
        ("machines/providers/remove/libvirt.sh", 'net-destroy "$own"'),
        ("machines/providers/remove/libvirt.sh", 'pool-start "$own"'),
        ("machines/providers/remove/libvirt.sh", 'destroy "$own-$1"'),
        ("machines/providers/remove/virtualbox.sh", 'controlvm "$machine" poweroff'),
        ("machines/providers/virtualbox.sh", "sed -n 's/^VMState"),
        ("machines/box.sh", 'docker rm -f "$container"'),
        ("machines/providers/remove/ssh.sh", 'ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit'),
        # Docker may remove it itself; the rest is removed in the next round.
        ("hosts/release.sh", "output=$(xargs docker rm -fv"),
        ("machines/sweep.sh", 'ssh -O exit -o ControlPath="$socket"'),
        # No match is a valid answer.
        # No match is a valid answer.
        ("hosts/adopt.sh", "missing_packages | grep"),
        # A node without a release has no link.
        ("content/deliver.sh", 'readlink "$link"'),
        # A missing link points to no release.
        ("content/links.sh", "readlink current"),
        ("content/links.sh", "readlink next"),
        ("swarm/wait_for_tasks.sh", "grep -vxF"),
        # Another machine may be removed meanwhile.
        ("firewall/install.sh", "awk '$1 == "),
        ("swarm/leave.sh", "grep -c '"),
        ("proxy/configure.sh", "grep -E '"),
        # An image with a container stays; an entry that can't be demoted may still be removed.
        ("images/deliver.sh", "xargs -r -n 1 docker image rm"),
        ("swarm/manager.sh", 'output=$(docker node demote "$id" 2>&1)'),
        ("proxy/configure.sh", "before=$(readlink current"),
    }
    found = [
        (name, line.strip())
        for name in SCRIPTS
        for line in text_of(name).splitlines()
        if re.search(r"\|\| (true|:)(\W|$)|; true\b", line) and '>>"$LOG"' not in line
    ]
    used = {(file, part) for file, part in known for name, line in found if name == file and part in line}
    assert [one for one in found if not any(one[0] == file and part in one[1] for file, part in known)] == []
    assert known - used == set(), "a removed place leaves no exception behind"


# --- the contract -----------------------------------------------------------------------------------------------------


def test_the_shells_contract_is_the_one_of_the_components() -> None:
    assert text_of("contract.sh") == shell_text(), "run: make docs"


def test_the_shells_contract_only_assigns() -> None:
    assert [line for line in code("contract.sh") if not re.fullmatch(r'[A-Z_]+="(\$\{WORK-\}/)?[\w./-]+"', line)] == []


@pytest.mark.parametrize("work", ["", ".work/dev"])
def test_bash_reads_the_contract_with_and_without_a_stacks_folder(work: str) -> None:
    names = shell_names()
    script = 'set -euo pipefail; . templates/contract.sh; for name; do echo "${!name}"; done'
    environment = {"PATH": os.environ["PATH"]} | ({"WORK": work} if work else {})
    done = subprocess.run(
        ["bash", "-c", script, "bash", *names], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [value.replace("${WORK-}", work) for value in names.values()]


def readers_of_the_contract() -> str:
    tools = [path for path in (PROJECT / "tools").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    templates = [path for path in TEMPLATES.rglob("*") if path.is_file() and path.name != "contract.sh"]
    return "\n".join(path.read_text() for path in [*templates, *tools])


def test_every_name_of_the_contract_is_used() -> None:
    text = readers_of_the_contract()
    assert [name for name in shell_names() if not re.search(rf"\b{name}\b", text)] == []


def literal() -> re.Pattern[str]:
    """Return a pattern for literal labels, node folders and files of the stack folder."""
    labels = [value for name, value in shell_names().items() if name.startswith("LABEL_") and "." in value]
    files = {
        kind: [file.path for file in stack_files().values() if isinstance(file, MachineFile) == kind]
        for kind in (True, False)
    }
    below_machine = r"(\$\{?folder\}?|\$\{?(MACHINES|WORK)\}?\"?/\S+?)\"?/"
    below_stack = r"(\$\{?WORK-?\}?\"?/|@\{ work \}@/|work, \"|\"\.\./\.\./)"
    return re.compile(
        "|".join(
            [
                *map(re.escape, labels),
                r"label=swarm-site(?![.\w-])",
                re.escape(FOLDER_SITE),
                rf"{below_machine}({'|'.join(files[True])})\b",
                rf"{below_stack}({'|'.join(files[False])})\b",
            ]
        )
    )


@pytest.mark.parametrize(
    "line",
    [
        'docker ps --filter "label=swarm-site.stack=$STACK"',
        "docker service ls --filter label=swarm-site --quiet",
        "cd /srv/swarm-site/content",
        "[[ -e $WORK/complete ]]",
        'cat "${WORK}/key.pub"',
        'touch "$WORK"/leaving',
        "[[ -e $folder/complete ]]",
        'ssh -F "$WORK/machines/$1/ssh_config"',
        'ssh -F "$MACHINES/$1/ssh_config"',
        'kernel = File.join(work, "kernel")',
        'File.expand_path("../../key", __dir__)',
        "IdentityFile @{ work }@/key",
    ],
)
def test_a_literal_is_found(line: str) -> None:
    assert literal().search(line)


def test_no_template_spells_what_the_contract_names() -> None:
    """A contract change reaches every script, and a search for a name finds every use."""
    names = [*SCRIPTS, *PARTS, *{template for template, _ in RENDERED.values()}]
    pattern = literal()
    assert [(name, line) for name in set(names) - {"contract.sh"} for line in code(name) if pattern.search(line)] == []


# --- tools that read the files ---------------------------------------------------------------------------------------


def checked_by(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(tool)
    assert program, f"{tool} is not installed, and this test is worth nothing without it; run: tools/setup check"
    return subprocess.run([program, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("provider", VAGRANT_PROVIDERS)
def test_the_vagrantfile_is_ruby(tmp_path: Path, provider: str) -> None:
    (tmp_path / "Vagrantfile").write_text(vagrantfile(provider))
    done = checked_by("ruby", "-wc", str(tmp_path / "Vagrantfile"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Syntax OK\n", "")


def test_the_vagrantfile_tells_vagrant_what_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "Vagrantfile").write_text(RENDERED["Vagrantfile"][1]())
    (tmp_path / "vagrant.rb").write_text(RECORDING_VAGRANT)
    done = checked_by("ruby", "-r", str(tmp_path / "vagrant.rb"), str(tmp_path / "Vagrantfile"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["vm.hostname="] == [["core-02"]]
    assert [words[0] for words in said["vm.network"] if not words[-1].get("disabled")] == []
    assert said["ssh.insert_key="] == [[False]]
    assert said["image="] == [[BOX]]
    assert said["name="] == [["swarm-site-dev-core-02"]]
    ((create_args,),) = said["create_args="]
    assert {"--network=swarm-site-dev", "--ip=192.168.56.12"} <= set(create_args)
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
    assert options["proxycommand"] == "env WORK=.work/dev bash templates/swarm/proxy_command.sh"
    assert options["identityfile"] == ".work/dev/key"
    assert options["user"] == "vagrant"
    assert options["batchmode"] == "yes"


@pytest.fixture
def user(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that installs a user's ssh configuration in place of `~/.ssh/config`."""

    def put(text: str) -> Path:
        (tmp_path / "config").write_text(text)
        return tmp_path / "config"

    return put


def host_options(golden: str, host: str, own: Path) -> dict[str, str]:
    """Return ssh's effective options for an entry combined with the user's configuration."""
    path = own.parent / golden
    path.write_text(RENDERED[golden][1]().replace("~/.ssh/config", str(own)))
    return ssh_options(path, host)


def test_ssh_reads_the_entry_of_an_adopted_host(user: Callable[[str], Path]) -> None:
    options = host_options("host.ssh_config", "web-2", user(""))
    assert options["hostname"] == "192.0.2.12"
    assert (options["user"], options["port"]) == ("admin", "2222")
    assert options["proxyjump"] == "me@bastion.example:2200"
    assert options["stricthostkeychecking"] == "true"
    assert options["batchmode"] == "yes"
    assert options["controlpath"] == ".work/dev/machines/web-2/ssh"
    assert "userknownhostsfile" in options
    assert ".work" not in options["userknownhostsfile"] + options["identityfile"]


def test_the_users_own_ssh_entries_apply_but_change_nothing_that_the_settings_say(
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
    probe = tmp_path / "probe"
    probe.write_text(f'echo "$WORK $1" >>{tmp_path}/tried; [[ $1 == {answering} ]]')
    path = tmp_path / "ssh_config"
    text = RENDERED["hosts-manager.ssh_config"][1]().replace("~/.ssh/config", str(own))
    path.write_text(text.replace("templates/swarm/probe.sh", str(probe)))
    options = ssh_options(path, "swarm-manager")
    tried = (tmp_path / "tried").read_text().splitlines()
    expected = [f"{WORK} web-1"] if answering == "web-1" else [f"{WORK} web-1", f"{WORK} web-2"]
    assert tried == expected, "no worker, and none after the first"
    if answering == "none":
        assert options["proxycommand"] == f"env WORK={WORK} bash {probe}"
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


def test_the_socket_name_of_a_machine_is_short_enough_for_the_longest_names(tmp_path: Path) -> None:
    node = Node(name=f"{LONGEST}-200", address="192.168.56.210", role="worker", proxy=False, memory=512, cpus=1)
    text = render("machines/ssh_config", work=f".work/{LONGEST}", node=node, timeout_factor=1)
    socket = shared_socket(text, node.name, tmp_path)
    assert len(socket) + SUFFIX_OF_A_NEW_SOCKET <= SOCKET_NAME_LIMIT


def test_the_socket_name_of_the_manager_is_short_enough_for_the_longest_names(tmp_path: Path) -> None:
    socket = shared_socket(
        render("swarm/ssh_config", work=f".work/{LONGEST}", timeout_factor=1), "swarm-manager", tmp_path
    )
    assert len(socket) + SUFFIX_OF_A_NEW_SOCKET <= SOCKET_NAME_LIMIT


# --- nginx -----------------------------------------------------------------------------------------------------------


def output_of_nginx(text: str, folder: Path) -> str:
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
def test_nginx_accepts_the_configuration(name: str, tmp_path: Path) -> None:
    assert "test is successful" in output_of_nginx(RENDERED[name][1](), tmp_path)


def test_nginx_accepts_the_configuration_of_a_bare_container(tmp_path: Path) -> None:
    text = (TEMPLATES / "images/nginx/files/etc/nginx/nginx.conf").read_text()
    # In the image they are at the paths of Debian's nginx; that folder does not exist here.
    folders = "".join(
        f"{kind}_temp_path /tmp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    assert "test is successful" in output_of_nginx(text.replace("http {", f"http {{\n{folders}"), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 1, "max_body_size": "0", "connect_timeout_ms": 50, "fail_timeout_s": 1},
        {"port": 65535, "max_body_size": "999999k", "connect_timeout_ms": 60000},
        {"max_body_size": "1g", "fail_timeout_s": 600},
    ],
    ids=["smallest", "largest", "other units"],
)
def test_nginx_accepts_the_settings_at_their_edges(settings: dict[str, object], tmp_path: Path) -> None:
    output_of_nginx(proxy([BACKEND], **settings), tmp_path)


def test_nginx_accepts_as_many_endpoints_as_there_can_be(tmp_path: Path) -> None:
    endpoints = [f"192.168.56.{number}:8080" for number in range(11, 211)]
    assert len(endpoints) == 200
    output_of_nginx(proxy([Route(name="backend", hosts=[], endpoints=endpoints, read_timeout=2)]), tmp_path)


LONGEST_HOST = ".".join(["a" * 63] * 3 + ["b" * 61])


@pytest.mark.parametrize("count", [1, 200])
def test_nginx_accepts_the_longest_host_names(count: int, tmp_path: Path) -> None:
    assert len(LONGEST_HOST) == 253
    hosts = [f"{number:03}{LONGEST_HOST[3:]}" for number in range(count)]
    named = Route(name="docs", hosts=hosts, endpoints=ENDPOINTS, read_timeout=2)
    output_of_nginx(proxy([BACKEND, named]), tmp_path)


def test_nginx_accepts_many_applications_with_many_host_names(tmp_path: Path) -> None:
    routes = [
        Route(
            name=f"{'a' * 27}{one:03}",
            hosts=[f"{two}.{one}.example" for two in range(50)],
            endpoints=ENDPOINTS,
            read_timeout=2,
        )
        for one in range(100)
    ]
    output_of_nginx(proxy([BACKEND, *routes]), tmp_path)


def test_an_application_is_reached_through_proxies_by_its_host_names_only() -> None:
    text = RENDERED["proxy-applications.nginx.conf"][1]()
    servers = re.findall(r"(?s)server_name ([^;]+);.*?proxy_pass http://(\w+);", text)
    assert servers == [("docs.example www.docs.example", "docs"), ("shop.example", "shop")]
    assert "internal" not in text.replace("internal;", ""), "it has no host name"
    assert re.search(r"(?s)default_server;.*?proxy_pass http://(\w+);", text, re.DOTALL)[1] == "backend"  # type: ignore[index]


def test_nginx_rejects_a_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknown directive"):
        output_of_nginx(RENDERED["proxy.nginx.conf"][1]().replace("proxy_pass", "proxy_pas"), tmp_path)


def test_a_proxy_tries_every_endpoint_before_it_gives_up() -> None:
    text = RENDERED["proxy.nginx.conf"][1]()
    assert "proxy_next_upstream error timeout http_502 http_503 http_504;" in text
    assert "proxy_next_upstream_tries 0;" in text
    assert re.search(r"zone backend \d+k;", text)
    assert "keepalive 32;" in text
    assert "listen 80 reuseport default_server;" in text


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["nginx", "node"])
def test_the_packages_of_a_recipe_are_sorted_names(recipe: str) -> None:
    lines = (TEMPLATES / "images" / recipe / "packages").read_text().splitlines()
    assert lines == sorted(set(lines))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line) for line in lines)


def test_the_unwanted_files_of_a_node_are_a_list_of_whole_paths() -> None:
    lines = (TEMPLATES / "images/node/unwanted").read_text().splitlines()
    assert len(lines) == len(set(lines))
    # Each line is appended to a root folder in `rm -rf`.
    assert all(re.fullmatch(r"/usr(/[\w.*+-]+)+", line) and ".." not in line for line in lines)


@pytest.mark.parametrize(
    ("recipe", "command"), [("nginx", ["nginx", "-g", "daemon off;"]), ("node", ["/lib/systemd/systemd"])]
)
def test_a_dockerfile_builds_on_its_base_and_names_its_command(recipe: str, command: list[str]) -> None:
    text = (TEMPLATES / "images" / recipe / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "ARG BASE"
    assert lines[1].startswith("FROM ${BASE}")
    known = {"ARG", "FROM", "COPY", "RUN", "ENV", "EXPOSE", "STOPSIGNAL", "CMD"}
    assert {line.split()[0] for line in lines} <= known
    assert json.loads(lines[-1].removeprefix("CMD ")) == command


def test_the_nodes_docker_uses_no_network_that_the_settings_allow() -> None:
    daemon = json.loads((TEMPLATES / "images/node/files/etc/docker/daemon.json").read_text())
    assert daemon["no-new-privileges"] is True
    assert daemon["live-restore"] is False, "a swarm's manager can't have it"
    bridges = [ipaddress.IPv4Interface(daemon["bip"]).network]
    bridges += [ipaddress.IPv4Network(pool["base"]) for pool in daemon["default-address-pools"]]
    for bridge in bridges:
        assert not any(bridge.overlaps(network) for network in PRIVATE_NETWORKS)


def test_sshd_of_a_node_accepts_the_stacks_key_only() -> None:
    text = (TEMPLATES / "images/node/files/etc/ssh/sshd_config").read_text()
    pairs = [
        (line.split(None, 1)[0], line.split(None, 1)[1])
        for line in text.splitlines()
        if line and not line.startswith("#")
    ]
    options: dict[str, str] = dict(pairs)
    names = [name for name, _ in pairs if name != "HostKey"]
    assert len(names) == len(set(names)), "of two, sshd silently takes the first"
    assert options["AuthenticationMethods"] == "publickey"
    assert options["PasswordAuthentication"] == options["KbdInteractiveAuthentication"] == "no"
    assert options["PermitRootLogin"] == "no"
    assert options["AllowUsers"] == "vagrant"
    assert "/etc/ssh/authorized_keys/%u" in options["AuthorizedKeysFile"].split()
    assert "/etc/ssh/authorized_keys:ro" in RENDERED["Vagrantfile"][1]()


def test_every_unit_of_a_node_is_well_formed() -> None:
    units = [name for name in RECIPE_DATA if "/systemd/" in name or name.endswith(".service")]
    assert len(units) == 8
    for name in units:
        parser = configparser.ConfigParser(interpolation=None, delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string((TEMPLATES / name).read_text())
        assert set(parser.sections()) <= {
            "Unit",
            "Service",
            "Scope",
            "Install",
            "Manager",
            "Journal",
            "Match",
            "Network",
        }
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


def test_every_file_ends_with_a_line_feed_and_has_no_trailing_blanks() -> None:
    for name in [*RECIPE_DATA, *PLAIN_SCRIPTS, *SCRIPTS]:
        text = (TEMPLATES / name).read_text()
        assert text.endswith("\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), name
