"""templates/machines/ with the providers libvirt and virtualbox; their programs are stubs."""

import json
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.unit.shell import RECORDER, ROUTES, STACK_FOLDER, Answer, Finished, World, refused, succeeded

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


def script(world: World, path: str, provider: str = "libvirt", **environment: str) -> Finished:
    return world.script(path, **{"PROVIDER": provider, **environment})


def stack_folder(world: World, provider: str = "libvirt", **changes: str) -> Finished:
    return script(world, "machines/stack_folder.sh", provider, **STACK_FOLDER | changes)


def delete(world: World, path: str, provider: str = "libvirt", node: str = "") -> Finished:
    return world.delete(path, PROVIDER=provider, NODE=node)


def function(world: World, call: str, provider: str = "libvirt", **environment: str) -> str:
    done = world.lib(call, source=f"machines/providers/{provider}.sh", **{"PROVIDER": provider, **environment})
    return succeeded(done)


@pytest.fixture
def host(world: World) -> World:
    """A machine with everything virtual machines need, all of it stubbed."""
    programs = ("virsh", "VBoxManage", "qemu-img", "qemu-system-x86_64", "dnsmasq", "curl")
    for name in programs:
        world.stub("here", name, RECORDER)
    world.stub("here", "ip", ROUTES)
    world.free_disk(10240)
    world.plan(Answer("here: vagrant*"), Answer(f"{VIRSH} uri"))
    return world


def orders(world: World) -> list[str]:
    """Return the calls that change something in libvirt."""
    asked = ("uri", "net-dumpxml", "net-list", "net-info", "pool-info", "pool-list", "vol-info", "vol-list", "dominfo")
    calls = [call.removeprefix(VIRSH).strip() for call in world.calls() if call.startswith(VIRSH)]
    return [call for call in calls if call.split()[0] not in asked]


# --- network and storage ---------------------------------------------------------------------------------------------


def test_a_stack_gets_a_network_that_knows_its_machines_and_a_storage_pool(host: World) -> None:
    shutil.rmtree(host.work)
    host.plan(
        Answer(f"{VIRSH} net-dumpxml swarm-site-dev", status=1, once=True),
        Answer(f"{VIRSH} net-dumpxml swarm-site-dev", NETWORK),
        Answer(f"{VIRSH} pool-info *", status=1),
        Answer(f"{VIRSH} *"),
    )

    succeeded(stack_folder(host))

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
    assert function(host, "network_xml", **STACK_FOLDER).splitlines()[3:6] == [
        "  <ip address='192.168.56.1' prefix='24'>",
        "    <dhcp><range start='192.168.56.2' end='192.168.56.254'/></dhcp>",
        "  </ip>",
    ]


def test_a_network_that_runs_already_is_left_alone(host: World) -> None:
    host.plan(
        Answer(f"{VIRSH} net-dumpxml *", NETWORK + HOSTS),
        Answer(f"{VIRSH} net-list --name", "swarm-site-dev\n"),
        Answer(f"{VIRSH} pool-list --name", " swarm-site-dev\n"),
        Answer(f"{VIRSH} *"),
    )
    succeeded(stack_folder(host))
    assert orders(host) == ["net-autostart swarm-site-dev", "pool-autostart swarm-site-dev"]


def test_too_little_disk_for_virtual_machines_is_refused(host: World) -> None:
    shutil.rmtree(host.work)
    host.free_disk(6143)
    host.plan(Answer(f"{VIRSH} net-dumpxml *", NETWORK + HOSTS), Answer(f"{VIRSH} *"))
    assert refused(stack_folder(host)) == (
        "this machine: the machines need 6144 MB of disk below /var/lib/libvirt and 6143 MB are free; make room\n"
    )


def test_a_network_does_not_change_while_its_virtual_machines_exist(host: World) -> None:
    host.plan(Answer(f"{VIRSH} net-dumpxml *", NETWORK), Answer(f"{VIRSH} uri"))
    error = refused(stack_folder(host, NETWORK="192.168.57.0/24", GATEWAY="192.168.57.1"))
    assert "this stack uses another network than 192.168.57.0/24, which can't change while its machines exist" in error
    assert orders(host) == []


def test_a_network_that_overlaps_another_is_refused_before_anything_is_created(host: World) -> None:
    host.plan(Answer(f"{VIRSH} net-dumpxml *", status=1), Answer(f"{VIRSH} uri"))
    error = refused(stack_folder(host, NETWORK="172.17.0.0/24"))
    assert "the network 172.17.0.0/24 overlaps 172.17.0.0/16 on docker0" in error
    assert orders(host) == []


def test_a_libvirtd_that_does_not_answer_is_refused(host: World) -> None:
    host.plan(Answer(f"{VIRSH} uri", status=1))
    error = refused(stack_folder(host))
    assert error == "this machine: libvirtd of this machine does not answer; run: tools/setup up\n"


def test_the_sweep_removes_machines_network_volumes_pool_and_box(host: World) -> None:
    host.create("core-01")
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

    output = succeeded(delete(host, "machines/sweep.sh"))

    assert output == ("core-01: removed leftover machine\ncore-07: removed leftover machine, which had no folder\n")
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


def test_a_machine_that_vagrant_can_not_destroy_is_removed_directly(host: World) -> None:
    folder = host.create("core-01")
    (folder / "Vagrantfile").touch()
    host.plan(Answer("here: vagrant destroy -f", "no box\n", status=1), Answer(f"{VIRSH} *"))
    output = succeeded(delete(host, "machines/delete.sh", node="core-01"))
    assert "core-01: vagrant destroy failed (no box); removing the machine directly\n" in output
    assert orders(host) == [
        "destroy swarm-site-dev-core-01",
        "undefine swarm-site-dev-core-01 --managed-save --snapshots-metadata",
        "vol-delete --pool swarm-site-dev swarm-site-dev-core-01.img",
    ]
    assert not folder.exists()


def test_a_machine_that_does_not_come_up_fails_and_names_its_console(host: World) -> None:
    host.plan(
        Answer("here: vagrant up --provider libvirt", "no address\n", status=1),
        Answer(f"{VIRSH} uri"),
        Answer(f"{VIRSH} *", status=1),
    )
    given = {"NODE": "core-01", "VAGRANTFILE": "# none\n", "SSH_CONFIG": "Host core-01\n"}
    error = refused(script(host, "machines/create.sh", **given))
    assert error.startswith("core-01: vagrant up failed: no address\n")
    assert "its console: /var/lib/libvirt/images/swarm-site-dev/core-01.console; run again: make up" in error


@pytest.mark.parametrize(("path", "node"), [("machines/delete.sh", "core-01"), ("machines/sweep.sh", "")])
@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
def test_nothing_is_forgotten_while_the_daemon_does_not_answer(
    host: World, provider: str, path: str, node: str
) -> None:
    if node:
        host.create(node)
    host.plan(Answer(f"{VIRSH} *", status=1), Answer("here: VBoxManage *", status=1))
    error = refused(delete(host, path, provider, node))
    assert "answer" in error or "can't list the stack's machines" in error
    assert (host.work / "machines/core-01/ssh_config").exists() == bool(node)
    assert host.work.exists()


@pytest.mark.parametrize(
    ("said", "state"), [("running", "on"), ("paused", "on"), ("shut off", "off"), ("crashed", "off")]
)
def test_a_virtual_machine_reports_its_power_state(host: World, said: str, state: str) -> None:
    host.plan(Answer(f"{VIRSH} domstate swarm-site-dev-core-01", f"{said}\n"))
    assert succeeded(script(host, "machines/power.sh", NODE="core-01", ACTION="state")) == f"{state}\n"


def test_a_missing_virtual_machine_has_no_power_state(host: World) -> None:
    host.plan(Answer(f"{VIRSH} domstate *", status=1))
    assert succeeded(script(host, "machines/power.sh", NODE="core-01", ACTION="state")) == "none\n"


@pytest.mark.parametrize(("action", "order"), [("start", "start"), ("off", "destroy")])
def test_a_virtual_machine_is_started_and_powered_off(host: World, action: str, order: str) -> None:
    host.plan(Answer(f"{VIRSH} *"))
    succeeded(script(host, "machines/power.sh", NODE="core-01", ACTION=action))
    assert orders(host) == [f"{order} swarm-site-dev-core-01"]


@pytest.mark.parametrize("deaf", [False, True])
def test_a_delete_ends_a_vagrant_that_outlived_its_killed_run(host: World, deaf: bool) -> None:
    folder = host.create("core-01")
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
        said = succeeded(delete(host, "machines/delete.sh", node="core-01"))
        assert left.wait(5) == (-signal.SIGKILL if deaf else -signal.SIGTERM)
        assert others.poll() is None, "a shell that somebody else has there is left alone"
        others.kill()
    assert "core-01: ending Vagrant, which is still working on it\n" in said
    assert not folder.exists()


# --- virtualization or emulation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("console", "emulated", "message"),
    [
        ("Kernel panic - not syncing: VFS: Unable to mount root fs\n", False, "run with hardware virtualization"),
        ("", True, "are emulated: with {} the kernel k did not boot"),
    ],
)
def test_hardware_virtualization_is_tried_and_not_assumed(
    host: World, console: str, emulated: bool, message: str
) -> None:
    device = host.folder / "kvm"
    device.touch()
    (host.folder / "k").touch()
    host.plan(Answer("here: qemu-system-x86_64 -enable-kvm *-kernel k *", console))
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(device))
    assert message.format(device) in said
    assert (host.work / "emulated").exists() == emulated


def test_without_a_kernel_nothing_is_tried_and_the_message_says_how_to_get_one(host: World) -> None:
    device = host.folder / "kvm"
    device.touch()
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(device))
    assert f"there is no kernel to test {device} with (k can't be read); machines.box: own brings one" in said
    assert (host.work / "emulated").exists()
    assert host.calls() == []


def test_without_the_device_nothing_is_tried(host: World) -> None:
    said = function(host, "choose_virtualization k", SWARM_SITE_KVM=str(host.folder / "kvm"))
    assert "machines are emulated: " in said
    assert (host.work / "emulated").exists()
    assert host.calls() == []


# --- the box ---------------------------------------------------------------------------------------------------------


def box_folder(host: World, *files: str, provider: str = "libvirt") -> Path:
    """Create the folder as `vagrant box add` does."""
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


def test_a_public_box_is_fetched_once_and_put_into_the_storage_pool(host: World) -> None:
    (host.work / "key.pub").write_text("ssh-ed25519 AAAA stack\n")
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

    output = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))
    again = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))

    assert ("downloading debian/bookworm64 12.2" in output, "downloading" in again) == (True, False)
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
        (Answer("here: curl *", '{"versions": []}'), "its catalogue has none for libvirt"),
    ],
)
def test_without_a_public_box_one_of_debian_packages_takes_its_place(host: World, answer: Answer, why: str) -> None:
    file = cached(host, "machine-0123456789ab.box")
    folder = box_folder(host, "box.img", "vmlinuz", "initrd")
    mark = int((folder / "box.img").stat().st_mtime)
    host.plan(answer, Answer("here: vagrant box add *"), Answer(f"{VIRSH} *"), SIZE)
    output = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX))
    assert f"the public box debian/bookworm64 is not available ({why}); building one from Debian packages" in output
    assert ADDED.format("libvirt", file) in host.calls()
    assert (host.work / "kernel").read_text() == f"/var/lib/libvirt/images/swarm-site-dev/{mark}\n"
    uploads = [order for order in orders(host) if order.startswith("vol-upload")]
    assert [order.split()[3] for order in uploads] == [
        f"swarm-site-dev_vagrant_box_image_0_{mark}_box.img",
        f"{mark}.vmlinuz",
        f"{mark}.initrd",
    ]
    # Leftovers of an interrupted run are removed first.
    assert orders(host)[0].startswith("vol-delete ")


def test_no_catalogue_is_asked_when_an_own_box_is_wanted(host: World) -> None:
    cached(host, "machine-0123456789ab.box")
    box_folder(host, "box.img")
    host.plan(Answer("here: vagrant box add *"), Answer(f"{VIRSH} *"), SIZE)
    output = succeeded(script(host, "machines/box.sh", SWARM_SITE_KVM="/none", **BOX | {"BOX": "own"}))
    assert "public" not in output
    assert not [call for call in host.calls() if call.startswith("here: curl")]


def test_a_box_in_another_format_is_refused_with_what_to_set(host: World) -> None:
    cached(host, "machine-0123456789ab.box")
    box_folder(host)
    host.plan(Answer("here: vagrant box add *"))
    error = refused(script(host, "machines/box.sh", **BOX | {"BOX": "own"}))
    assert "has no box.img" in error
    assert "pulumi config set --path machines.box own" in error


def test_virtualbox_fails_without_its_public_box(host: World) -> None:
    host.plan(Answer("here: curl *", status=6))
    error = refused(script(host, "machines/box.sh", "virtualbox", **BOX | {"PROVIDER": "virtualbox"}))
    assert "the public box debian/bookworm64 is not available: its catalogue did not answer within 8 s" in error
    assert "Provider virtualbox needs it; run again: make up" in error


# --- virtualbox ------------------------------------------------------------------------------------------------------

HOSTONLY = "Name:            vboxnet3\nIPAddress:       192.168.56.1\n"


def test_a_stack_gets_a_host_only_network_of_its_own(host: World) -> None:
    shutil.rmtree(host.work)
    host.plan(
        Answer("here: VBoxManage hostonlyif create", "Interface 'vboxnet3' was successfully created\n"),
        Answer("here: VBoxManage list hostonlyifs", HOSTONLY),
        Answer("here: VBoxManage *"),
    )
    succeeded(stack_folder(host, "virtualbox"))
    assert "here: VBoxManage hostonlyif ipconfig vboxnet3 --ip 192.168.56.1 --netmask 255.255.255.0" in host.calls()
    assert (host.work / "hostonly").read_text() == "vboxnet3\n"

    succeeded(stack_folder(host, "virtualbox"))
    assert host.calls().count("here: VBoxManage hostonlyif create") == 1

    succeeded(delete(host, "machines/sweep.sh", "virtualbox"))
    assert "here: VBoxManage hostonlyif remove vboxnet3" in host.calls()
    assert not host.work.exists()


def test_too_little_disk_for_machines_of_virtualbox_is_refused(host: World) -> None:
    shutil.rmtree(host.work)
    host.free_disk(10239)
    host.plan(Answer("here: VBoxManage *"))
    error = refused(stack_folder(host, "virtualbox"))
    assert f"need 10240 MB of disk below {host.folder} and 10239 MB are free; make room" in error


def test_virtualbox_without_its_kernel_module_is_refused(host: World) -> None:
    host.plan(Answer("here: VBoxManage list hostinfo", "WARNING: The character device /dev/vboxdrv does not exist.\n"))
    error = refused(stack_folder(host, "virtualbox"))
    assert "VirtualBox does not work on this machine: WARNING: The character device /dev/vboxdrv" in error


def test_virtualbox_creates_one_machine_after_another(host: World) -> None:
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
        output = succeeded(script(host, "machines/create.sh", "virtualbox", **given))
    assert output.startswith("core-01: waiting for its turn: VirtualBox creates one machine after another\n")
    assert "here: vagrant up --provider virtualbox" in host.calls()


def test_a_machine_of_virtualbox_is_powered_off_and_unregistered(host: World) -> None:
    folder = host.create("core-01")
    (folder / "Vagrantfile").touch()
    host.plan(Answer("here: vagrant destroy -f", "no box\n", status=1), Answer("here: VBoxManage *"))
    output = succeeded(delete(host, "machines/delete.sh", "virtualbox", "core-01"))
    assert "core-01: vagrant destroy failed (no box); removing the machine directly\n" in output
    assert host.calls()[-2:] == [
        "here: VBoxManage controlvm swarm-site-dev-core-01 poweroff",
        "here: VBoxManage unregistervm swarm-site-dev-core-01 --delete",
    ]
    assert not folder.exists()


def test_a_machine_that_virtualbox_can_not_remove_fails_with_its_error_and_its_folder_stays(host: World) -> None:
    folder = host.create("core-01")
    unregister = "here: VBoxManage unregistervm swarm-site-dev-core-01 --delete"
    host.plan(Answer(unregister, "it is locked\n", status=1), Answer("here: VBoxManage *"))
    error = refused(delete(host, "machines/delete.sh", "virtualbox", "core-01"))
    assert error == "core-01: VirtualBox can't remove it: it is locked; run again: make down\n"
    assert folder.exists()


@pytest.mark.parametrize(
    ("said", "state"), [("running", "on"), ("poweroff", "off"), ("aborted", "off"), ("saved", "off"), ("stuck", "on")]
)
def test_a_machine_of_virtualbox_reports_its_power_state(host: World, said: str, state: str) -> None:
    told = Answer("here: VBoxManage showvminfo swarm-site-dev-core-01 --machinereadable", f'VMState="{said}"\n')
    host.plan(told)
    assert succeeded(script(host, "machines/power.sh", "virtualbox", NODE="core-01", ACTION="state")) == f"{state}\n"


def test_a_missing_machine_of_virtualbox_has_no_power_state(host: World) -> None:
    host.plan(Answer("here: VBoxManage *", status=1))
    assert succeeded(script(host, "machines/power.sh", "virtualbox", NODE="core-01", ACTION="state")) == "none\n"


def test_only_the_stacks_own_machines_of_virtualbox_are_leftovers(host: World) -> None:
    names = ["swarm-site-dev-core-01", "swarm-site-dev-2-core-01", "desktop"]
    groups = ["/swarm-site-dev", "/swarm-site-dev-2", "/"]
    host.plan(
        Answer("here: VBoxManage list vms", "".join(f'"{name}" {{0}}\n' for name in names)),
        *(
            Answer(f"here: VBoxManage showvminfo {name} --machinereadable", f'groups="{group}"\n')
            for name, group in zip(names, groups, strict=True)
        ),
    )
    assert function(host, "leftovers", "virtualbox") == "core-01\n"
