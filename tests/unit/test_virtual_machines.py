"""The providers of virtual machines, with stand-ins of virsh, VBoxManage, vagrant, qemu and curl."""

import json
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from components.rendering import render
from tests.unit.test_scripts import RECORDER, ROUTES, WORKSHOP, Answer, World, free_disk, refused, succeeded, world
from tools import stack

__all__ = ["world"]

VIRSH = "here: virsh --quiet --connect qemu:///system"
NETWORK = """<network>
  <name>swarm-site-dev</name>
  <ip address='192.168.56.1' prefix='24'>
    <dhcp><range start='192.168.56.2' end='192.168.56.254'/></dhcp>
  </ip>
</network>
"""
HOSTS = "<host mac='52:54:c0:a8:38:0b'/><host mac='52:54:c0:a8:38:0c'/>\n"
BOX = {
    "PROVIDER": "libvirt",
    "BOX": "debian/bookworm64",
    "IMAGE": "localhost/site/machine:0123456789ab",
    "MIRROR": "",
    "LOG": ".work/dev/box.log",
}
CATALOGUE = {
    "versions": [
        {
            "version": "12.2",
            "providers": [
                {"name": "virtualbox", "architecture": "amd64", "url": "https://boxes.example/12.2/virtualbox"},
                {"name": "libvirt", "architecture": "arm64", "url": "https://boxes.example/12.2/arm64"},
                {"name": "libvirt", "architecture": "amd64", "url": "https://boxes.example/12.2/libvirt"},
            ],
        },
        {"version": "12.1", "providers": [{"name": "libvirt", "url": "https://boxes.example/12.1/libvirt"}]},
    ]
}


def script(
    world: World, template: str, provider: str = "libvirt", **environment: str
) -> subprocess.CompletedProcess[str]:
    return world.bash(render(template, work=".work/dev", provider=provider), **{"PROVIDER": provider, **environment})


def function(world: World, call: str, provider: str = "libvirt", **environment: str) -> str:
    text = f"{render('lib.sh')}\n{render(f'machines/{provider}.sh')}\n{call}"
    return succeeded(world.bash(text, **{"PROVIDER": provider, **environment}))


@pytest.fixture
def host(world: World) -> World:
    """A machine with what virtual machines are made with, and none of it real."""
    programs = ("virsh", "VBoxManage", "qemu-img", "qemu-system-x86_64", "dnsmasq", "curl")
    for name in programs:
        world.stub("here", name, RECORDER)
    world.stub("here", "ip", ROUTES)
    free_disk(world, 10240)
    world.plan(Answer("here: vagrant*"), Answer(f"{VIRSH} uri"))
    return world


def orders(world: World) -> list[str]:
    """What libvirt was told to do, without what it was asked."""
    asked = ("uri", "net-dumpxml", "net-list", "net-info", "pool-info", "pool-list", "vol-info", "vol-list", "dominfo")
    calls = [call.removeprefix(VIRSH).strip() for call in world.calls() if call.startswith(VIRSH)]
    return [call for call in calls if call.split()[0] not in asked]


# --- network and storage ---------------------------------------------------------------------------------------------


def test_a_network_of_the_stacks_own_knows_its_machines_and_is_started_with_this_machine(host: World) -> None:
    shutil.rmtree(host.work)
    host.plan(
        Answer(f"{VIRSH} net-dumpxml swarm-site-dev", status=1, once=True),
        Answer(f"{VIRSH} net-dumpxml swarm-site-dev", NETWORK),
        Answer(f"{VIRSH} pool-info *", status=1),
        Answer(f"{VIRSH} *"),
    )

    succeeded(script(host, "machines/workshop.sh", **WORKSHOP | {"PROVIDER": "libvirt"}))

    own, pool = "swarm-site-dev", "/var/lib/libvirt/images/swarm-site-dev"
    hosts = [f"<host mac='52:54:c0:a8:38:0{digit}' ip='192.168.56.1{n}'/>" for digit, n in (("b", 1), ("c", 2))]
    assert orders(host) == [
        "net-define /dev/stdin",
        f"net-autostart {own}",
        f"net-start {own}",
        *(f"net-update {own} add-last ip-dhcp-host {line} --live --config" for line in hosts),
        f"pool-define-as {own} dir --target {pool}",
        f"pool-build {own}",
        f"pool-autostart {own}",
        f"pool-start {own}",
    ]
    assert (host.work / "provider").read_text() == "libvirt\n"


def test_the_networks_range_has_room_for_every_machine(host: World) -> None:
    assert function(host, "network_xml", NETWORK="192.168.56.0/24").splitlines()[3:6] == [
        "  <ip address='192.168.56.1' prefix='24'>",
        "    <dhcp><range start='192.168.56.2' end='192.168.56.254'/></dhcp>",
        "  </ip>",
    ]


def test_a_network_that_is_there_and_runs_is_left_as_it_is(host: World) -> None:
    host.plan(
        Answer(f"{VIRSH} net-dumpxml *", NETWORK + HOSTS),
        Answer(f"{VIRSH} net-list --name", "swarm-site-dev\n"),
        Answer(f"{VIRSH} pool-list --name", " swarm-site-dev\n"),
        Answer(f"{VIRSH} *"),
    )
    succeeded(script(host, "machines/workshop.sh", **WORKSHOP | {"PROVIDER": "libvirt"}))
    assert orders(host) == ["net-autostart swarm-site-dev", "pool-autostart swarm-site-dev"]


def test_too_little_disk_for_virtual_machines_is_refused(host: World) -> None:
    shutil.rmtree(host.work)
    free_disk(host, 6143)
    host.plan(Answer(f"{VIRSH} net-dumpxml *", NETWORK + HOSTS), Answer(f"{VIRSH} *"))
    assert refused(script(host, "machines/workshop.sh", **WORKSHOP | {"PROVIDER": "libvirt"})) == (
        "this machine: the machines need 6144 MB of disk below /var/lib/libvirt and 6143 MB are free; make room\n"
    )


def test_a_network_is_not_changed_under_virtual_machines(host: World) -> None:
    host.plan(Answer(f"{VIRSH} net-dumpxml *", NETWORK), Answer(f"{VIRSH} uri"))
    changed = WORKSHOP | {"PROVIDER": "libvirt", "NETWORK": "192.168.57.0/24"}
    words = refused(script(host, "machines/workshop.sh", **changed))
    assert "stand in another network than 192.168.57.0/24, and it can't be changed under them" in words
    assert orders(host) == []


def test_a_network_that_overlaps_another_is_refused_before_anything_is_made(host: World) -> None:
    host.plan(Answer(f"{VIRSH} net-dumpxml *", status=1), Answer(f"{VIRSH} uri"))
    taken = WORKSHOP | {"PROVIDER": "libvirt", "NETWORK": "172.17.0.0/24"}
    words = refused(script(host, "machines/workshop.sh", **taken))
    assert "the network 172.17.0.0/24 overlaps 172.17.0.0/16 on docker0" in words
    assert orders(host) == []


def test_a_libvirtd_that_does_not_answer_is_named_with_what_to_run(host: World) -> None:
    host.plan(Answer(f"{VIRSH} uri", status=1))
    words = refused(script(host, "machines/workshop.sh", **WORKSHOP | {"PROVIDER": "libvirt"}))
    assert words == "this machine: libvirtd of this machine does not answer; run: tools/setup up\n"


def test_the_sweep_takes_machines_network_volumes_pool_and_box_away(host: World) -> None:
    host.make("core-01")
    boxes = host.folder / ".vagrant.d" / "boxes" / "swarm-site-dev"
    boxes.mkdir(parents=True)
    host.plan(
        Answer(f"{VIRSH} list --all --name", "a\nb\n"),
        Answer(f"{VIRSH} desc a", "swarm-site dev core-07\n"),
        Answer(f"{VIRSH} desc b", "swarm-site dev-2 core-01\n"),
        Answer(f"{VIRSH} vol-list swarm-site-dev", " one.img   /one.img\n two   /two\n"),
        Answer(f"{VIRSH} *"),
        Answer("here: vagrant box remove --force --all swarm-site-dev"),
    )

    words = succeeded(script(host, "machines/sweep.sh"))

    assert words == "core-01: left over, taken away\ncore-07: left over without a folder, taken away\n"
    told = orders(host)
    assert [order for order in told if "dev-2" in order] == []
    assert told[-9:] == [
        *("net-destroy swarm-site-dev", "net-undefine swarm-site-dev"),
        *("pool-start swarm-site-dev", "pool-refresh swarm-site-dev"),
        *("vol-delete --pool swarm-site-dev one.img", "vol-delete --pool swarm-site-dev two"),
        *("pool-destroy swarm-site-dev", "pool-delete swarm-site-dev", "pool-undefine swarm-site-dev"),
    ]
    assert host.calls()[-1] == "here: vagrant box remove --force --all swarm-site-dev"
    assert not host.work.exists()


# --- machines --------------------------------------------------------------------------------------------------------


def test_a_machine_that_vagrant_does_not_take_away_is_taken_away_directly(host: World) -> None:
    folder = host.make("core-01")
    (folder / "Vagrantfile").touch()
    host.plan(Answer("here: vagrant destroy -f", "no box\n", status=1), Answer(f"{VIRSH} *"))
    words = succeeded(script(host, "machines/delete.sh", NODE="core-01"))
    assert "core-01: vagrant destroy failed (no box); its domain is removed directly\n" in words
    assert orders(host) == [
        "destroy swarm-site-dev-core-01",
        "undefine swarm-site-dev-core-01 --managed-save --snapshots-metadata",
        "vol-delete --pool swarm-site-dev swarm-site-dev-core-01.img",
    ]
    assert not folder.exists()


def test_a_machine_that_does_not_come_up_is_a_failure_that_names_its_console(host: World) -> None:
    host.plan(
        Answer("here: vagrant up --provider libvirt", "no address\n", status=1),
        Answer(f"{VIRSH} uri"),
        Answer(f"{VIRSH} *", status=1),
    )
    given = {"NODE": "core-01", "VAGRANTFILE": "# none\n", "SSH_CONFIG": "Host core-01\n"}
    words = refused(script(host, "machines/create.sh", **given))
    assert words.startswith("core-01: vagrant up failed: no address\n")
    assert "its console: /var/lib/libvirt/images/swarm-site-dev/core-01.console; run again: make up" in words


@pytest.mark.parametrize(
    ("said", "state"), [("running", "on"), ("paused", "on"), ("shut off", "off"), ("crashed", "off")]
)
def test_a_virtual_machine_is_on_or_off(host: World, said: str, state: str) -> None:
    host.plan(Answer(f"{VIRSH} domstate swarm-site-dev-core-01", f"{said}\n"))
    assert succeeded(script(host, "machines/power.sh", NODE="core-01", WISH="state")) == f"{state}\n"


def test_a_virtual_machine_that_is_gone_is_neither(host: World) -> None:
    host.plan(Answer(f"{VIRSH} domstate *", status=1))
    assert succeeded(script(host, "machines/power.sh", NODE="core-01", WISH="state")) == "none\n"


@pytest.mark.parametrize(("wish", "order"), [("start", "start"), ("off", "destroy")])
def test_a_virtual_machine_is_started_and_switched_off(host: World, wish: str, order: str) -> None:
    host.plan(Answer(f"{VIRSH} *"))
    succeeded(script(host, "machines/power.sh", NODE="core-01", WISH=wish))
    assert orders(host) == [f"{order} swarm-site-dev-core-01"]


@pytest.mark.parametrize("deaf", [False, True])
def test_a_vagrant_that_goes_on_after_its_run_was_killed_is_ended_before_its_machine_goes(
    host: World, deaf: bool
) -> None:
    folder = host.make("core-01")
    (folder / "Vagrantfile").touch()
    for name in ("ruby3.1", "editor"):
        shutil.copy(shutil.which("bash") or "", host.folder / name)
    host.plan(Answer("here: vagrant destroy -f"), Answer(f"{VIRSH} *"))
    code = f"{'trap : TERM;' if deaf else ''} while echo works; do read -t 30 <> <(:); done"
    with (
        subprocess.Popen([host.folder / "ruby3.1", "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True) as left,
        subprocess.Popen([host.folder / "editor", "-c", "read"], cwd=folder, stdin=subprocess.PIPE) as others,
    ):
        assert left.stdout
        assert left.stdout.readline() == "works\n"
        said = succeeded(script(host, "machines/delete.sh", NODE="core-01"))
        assert left.wait(5) == (-signal.SIGKILL if deaf else -signal.SIGTERM)
        assert others.poll() is None, "a shell that somebody has there is nobody's business"
        others.kill()
    assert "core-01: ends Vagrant, which still works on it\n" in said
    assert not folder.exists()


# --- how machines run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("console", "emulated", "words"),
    [
        ("Kernel panic - not syncing: VFS: Unable to mount root fs\n", False, "run with hardware virtualization"),
        ("", True, "are emulated: with {} the kernel k did not come up"),
    ],
)
def test_hardware_virtualization_is_tried_and_not_assumed(
    host: World, console: str, emulated: bool, words: str
) -> None:
    device = host.folder / "kvm"
    device.touch()
    (host.folder / "k").touch()
    host.plan(Answer("here: qemu-system-x86_64 -enable-kvm *-kernel k *", console))
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(device))
    assert words.format(device) in said
    assert (host.work / "emulated").exists() == emulated


def test_without_a_kernel_nothing_is_tried_and_the_way_to_one_is_said(host: World) -> None:
    device = host.folder / "kvm"
    device.touch()
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(device))
    assert f"there is no kernel to try {device} with (k can't be read); machines.box: own has one" in said
    assert (host.work / "emulated").exists()
    assert host.calls() == []


def test_without_the_device_nothing_is_tried(host: World) -> None:
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(host.folder / "kvm"))
    assert "machines are emulated: " in said
    assert (host.work / "emulated").exists()
    assert host.calls() == []


@pytest.mark.parametrize(("emulated", "seconds"), [(False, 10), (True, 50)])
def test_an_emulated_machine_may_take_five_times_as_long(
    host: World, emulated: bool, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if emulated:
        (host.work / "emulated").touch()
    monkeypatch.setattr(stack, "WORK", host.work)
    assert stack.patience(10) == seconds
    assert succeeded(host.lib("patience 10")) == f"{seconds}\n"
    waited = succeeded(host.lib('wait_for 10 "it" false || echo "$SECONDS"', A_SLEEP_COUNTS_AS="5")).splitlines()
    assert seconds <= int(waited[-1]) < seconds + 5, "a slow machine adds a second of its own"


def test_a_question_to_an_emulated_machine_is_bounded_all_the_same(host: World) -> None:
    (host.work / "emulated").touch()
    host.nodes("core-01")
    host.stub("here", "timeout", RECORDER)
    host.plan(Answer("here: timeout --foreground 25 ssh *"))
    succeeded(host.lib("LIMIT=5 on_node core-01 true"))


# --- the box ---------------------------------------------------------------------------------------------------------


def box_folder(host: World, *files: str, provider: str = "libvirt") -> Path:
    """What `vagrant box add` would have made."""
    folder = host.folder / ".vagrant.d" / "boxes" / "swarm-site-dev" / "0" / provider
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("x")
    return folder


def cached(host: World, name: str) -> Path:
    path = host.folder / "cache" / "swarm-site" / "boxes" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w"):
        pass
    return path


ADDED = "here: vagrant box add --force --no-tty --provider {} --name swarm-site-dev {}"
SIZE = Answer("here: qemu-img info *", '{\n    "virtual-size": 10,\n}\n')


def recipes(host: World) -> None:
    shutil.copytree(
        Path(render.__code__.co_filename).parent.parent / "templates" / "images", host.folder / "templates/images"
    )
    (host.work / "key.pub").write_text("ssh-ed25519 AAAA stack\n")


def test_a_public_box_that_can_be_had_is_fetched_once_and_put_where_machines_want_it(host: World) -> None:
    recipes(host)
    folder = box_folder(host, "box.img")
    mark = int((folder / "box.img").stat().st_mtime)
    file = host.folder / "cache/swarm-site/boxes/debian-bookworm64-12.2-libvirt.box"
    host.stub(
        "here", "curl", RECORDER.replace("printf '%b'", "[[ $* != *-o* ]] || touch \"${*: -2:1}\"\n  printf '%b'")
    )
    host.plan(
        Answer(
            "here: curl -sSfL --max-time 8 https://vagrantcloud.com/api/v2/vagrant/debian/bookworm64",
            json.dumps(CATALOGUE),
        ),
        Answer(f"here: curl -sSfL --max-time 1200 -o {file}.new https://boxes.example/12.2/libvirt"),
        Answer("here: vagrant box add *"),
        Answer(f"{VIRSH} vol-info *", status=1),
        Answer(f"{VIRSH} *"),
        SIZE,
    )

    words = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))
    again = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))

    assert ("fetching debian/bookworm64 12.2" in words, "fetching" in again) == (True, False)
    assert ADDED.format("libvirt", file) in host.calls()
    volume = f"swarm-site-dev_vagrant_box_image_0_{mark}_box.img"
    assert orders(host)[:2] == [
        f"vol-create-as swarm-site-dev {volume} 10 --format qcow2",
        f"vol-upload --pool swarm-site-dev {volume} {folder}/box.img",
    ]
    assert not (host.work / "kernel").exists(), "it boots by itself"
    for name in ("provision", "key.pub", "packages", "files/etc/docker/daemon.json", "files/etc/sysctl.d/node.conf"):
        assert (host.work / "recipe" / name).exists(), name


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("here: curl *", "Could not resolve host\n", status=6), "its catalogue did not answer within 8 s"),
        (Answer("here: curl *", '{"versions": []}'), "its catalogue names none for libvirt"),
    ],
)
def test_a_public_box_that_can_not_be_had_is_replaced_by_one_of_debian_packages(
    host: World, answer: Answer, why: str
) -> None:
    file = cached(host, "machine-0123456789ab.box")
    folder = box_folder(host, "box.img", "vmlinuz", "initrd")
    mark = int((folder / "box.img").stat().st_mtime)
    host.plan(answer, Answer("here: vagrant box add *"), Answer(f"{VIRSH} *"), SIZE)
    words = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))
    assert f"the public box debian/bookworm64 is not to be had ({why}); one is made of Debian packages" in words
    assert ADDED.format("libvirt", file) in host.calls()
    assert (host.work / "kernel").read_text() == f"/var/lib/libvirt/images/swarm-site-dev/{mark}\n"
    uploads = [order for order in orders(host) if order.startswith("vol-upload")]
    assert [order.split()[3] for order in uploads] == [
        f"swarm-site-dev_vagrant_box_image_0_{mark}_box.img",
        f"{mark}.vmlinuz",
        f"{mark}.initrd",
    ]
    # What a run that was cut off left there goes first.
    assert orders(host)[0].startswith("vol-delete ")


def test_nobody_is_asked_for_a_public_box_where_an_own_one_is_wanted(host: World) -> None:
    cached(host, "machine-0123456789ab.box")
    box_folder(host, "box.img")
    host.plan(Answer("here: vagrant box add *"), Answer(f"{VIRSH} *"), SIZE)
    words = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX | {"BOX": "own"}))
    assert "public" not in words
    assert not [call for call in host.calls() if call.startswith("here: curl")]


def test_a_box_in_another_format_is_refused_with_what_to_set(host: World) -> None:
    cached(host, "machine-0123456789ab.box")
    box_folder(host)
    host.plan(Answer("here: vagrant box add *"))
    words = refused(script(host, "machines/box.sh", **BOX | {"BOX": "own"}))
    assert "has no box.img" in words
    assert "pulumi config set --path machines.box own" in words


def test_virtualbox_without_its_public_box_is_a_failure_that_says_why(host: World) -> None:
    host.plan(Answer("here: curl *", status=6))
    words = refused(script(host, "machines/box.sh", "virtualbox", **BOX | {"PROVIDER": "virtualbox"}))
    assert "the public box debian/bookworm64 is not to be had: its catalogue did not answer within 8 s" in words
    assert "machines of virtualbox need one" in words


# --- virtualbox ------------------------------------------------------------------------------------------------------

HOSTONLY = "Name:            vboxnet3\nIPAddress:       192.168.56.1\n"


def test_virtualbox_gets_a_network_of_the_stacks_own(host: World) -> None:
    shutil.rmtree(host.work)
    host.plan(
        Answer("here: VBoxManage hostonlyif create", "Interface 'vboxnet3' was successfully created\n"),
        Answer("here: VBoxManage list hostonlyifs", HOSTONLY),
        Answer("here: VBoxManage *"),
    )
    given = WORKSHOP | {"PROVIDER": "virtualbox"}
    succeeded(script(host, "machines/workshop.sh", "virtualbox", **given))
    assert "here: VBoxManage hostonlyif ipconfig vboxnet3 --ip 192.168.56.1 --netmask 255.255.255.0" in host.calls()
    assert (host.work / "hostonly").read_text() == "vboxnet3\n"

    succeeded(script(host, "machines/workshop.sh", "virtualbox", **given))
    assert host.calls().count("here: VBoxManage hostonlyif create") == 1

    succeeded(script(host, "machines/sweep.sh", "virtualbox"))
    assert "here: VBoxManage hostonlyif remove vboxnet3" in host.calls()
    assert not host.work.exists()


def test_too_little_disk_for_machines_of_virtualbox_is_refused(host: World) -> None:
    shutil.rmtree(host.work)
    free_disk(host, 10239)
    host.plan(Answer("here: VBoxManage *"))
    words = refused(script(host, "machines/workshop.sh", "virtualbox", **WORKSHOP | {"PROVIDER": "virtualbox"}))
    assert f"need 10240 MB of disk below {host.folder} and 10239 MB are free; make room" in words


def test_virtualbox_without_its_kernel_module_is_refused_with_its_words(host: World) -> None:
    host.plan(Answer("here: VBoxManage list hostinfo", "WARNING: The character device /dev/vboxdrv does not exist.\n"))
    words = refused(script(host, "machines/workshop.sh", "virtualbox", **WORKSHOP | {"PROVIDER": "virtualbox"}))
    assert "VirtualBox does not run on this machine: WARNING: The character device /dev/vboxdrv" in words


def test_virtualbox_makes_one_machine_after_another(host: World) -> None:
    lock = host.folder / "cache" / "swarm-site" / "boxes" / "virtualbox.lock"
    lock.parent.mkdir(parents=True)
    host.nodes("core-01")
    given = {"NODE": "core-01", "VAGRANTFILE": "# none\n", "SSH_CONFIG": "Host core-01\n"}
    (host.work / "machines/core-01/Vagrantfile").write_text("# none\n")
    host.plan(Answer("here: vagrant up --provider virtualbox"), Answer("core-01: docker info"))
    holder = ["flock", str(lock), "sh", "-c", "echo held; sleep 0.5"]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        words = succeeded(script(host, "machines/create.sh", "virtualbox", **given))
    assert words.startswith("core-01: waiting for its turn: VirtualBox makes one machine after another\n")
    assert "here: vagrant up --provider virtualbox" in host.calls()


@pytest.mark.parametrize(
    ("said", "state"), [("running", "on"), ("poweroff", "off"), ("aborted", "off"), ("saved", "off"), ("stuck", "on")]
)
def test_a_machine_of_virtualbox_is_on_or_off(host: World, said: str, state: str) -> None:
    told = Answer("here: VBoxManage showvminfo swarm-site-dev-core-01 --machinereadable", f'VMState="{said}"\n')
    host.plan(told)
    assert succeeded(script(host, "machines/power.sh", "virtualbox", NODE="core-01", WISH="state")) == f"{state}\n"


def test_a_machine_of_virtualbox_that_is_gone_is_neither(host: World) -> None:
    host.plan(Answer("here: VBoxManage *", status=1))
    assert succeeded(script(host, "machines/power.sh", "virtualbox", NODE="core-01", WISH="state")) == "none\n"


def test_of_virtualboxs_machines_only_the_stacks_own_are_left_over(host: World) -> None:
    names = ["swarm-site-dev-core-01", "swarm-site-dev-2-core-01", "desktop"]
    groups = ["/swarm-site-dev", "/swarm-site-dev-2", "/"]
    host.plan(
        Answer("here: VBoxManage list vms", "".join(f'"{name}" {{0}}\n' for name in names)),
        *(
            Answer(f"here: VBoxManage showvminfo {name} --machinereadable", f'groups="{group}"\n')
            for name, group in zip(names, groups, strict=True)
        ),
    )
    assert function(host, "left_over", "virtualbox") == "core-01\n"
