"""templates/machines/: the stack folder, and machines that are containers (provider docker)."""

import re
import shutil
import stat

import pytest

from tests.unit.shell import (
    DAEMON_ANSWERS,
    DOCKER_ROOT,
    NEW_NETWORK,
    NO_NETWORK,
    NOTHING_EXISTS,
    RECORDER,
    ROUTES,
    STACK_FOLDER,
    Answer,
    Finished,
    World,
    refused,
    succeeded,
)

# --- stack_folder.sh --------------------------------------------------------------------------------------------------


def stack_folder(world: World, **changes: str) -> Finished:
    return world.script("machines/stack_folder.sh", **STACK_FOLDER | changes)


def test_the_stacks_folder_holds_key_nodes_and_ssh_configuration(bare: World) -> None:
    assert succeeded(stack_folder(bare)) == ""
    work = bare.work
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert stat.S_IMODE((work / "key").stat().st_mode) == 0o600
    public = (work / "key.pub").read_text()
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" swarm-site dev\n")
    assert (work / "authorized_keys/vagrant").read_text() == public
    assert stat.S_IMODE((work / "authorized_keys/vagrant").stat().st_mode) == 0o644
    assert (work / "nodes").read_text() == STACK_FOLDER["NODES"] + "\n"
    assert (work / "ssh_config").read_text() == STACK_FOLDER["SSH_CONFIG"]
    assert (work / "provider").read_text() == "docker\n"
    assert (work / "machines").is_dir()
    assert (work / "locks").is_dir()


def test_the_key_stays_when_the_nodes_change(bare: World) -> None:
    succeeded(stack_folder(bare))
    key = (bare.work / "key").read_text()
    succeeded(stack_folder(bare, NODES="core-01 192.168.56.11 manager"))
    assert (bare.work / "key").read_text() == key
    assert (bare.work / "nodes").read_text() == "core-01 192.168.56.11 manager\n"


def test_a_key_that_a_killed_run_left_incomplete_is_created_again(bare: World) -> None:
    bare.work.mkdir()
    (bare.work / "key.new").write_text("half")
    succeeded(stack_folder(bare))
    assert (bare.work / "key").read_text().startswith("-----BEGIN OPENSSH")


def test_a_key_is_never_replaced_and_gives_its_public_half_again(bare: World) -> None:
    succeeded(stack_folder(bare))
    private, public = (bare.work / "key").read_text(), (bare.work / "key.pub").read_text()
    (bare.work / "key.pub").unlink()
    succeeded(stack_folder(bare))
    assert (bare.work / "key").read_text() == private
    assert (bare.work / "key.pub").read_text() == public == (bare.work / "authorized_keys/vagrant").read_text()


def test_a_network_that_this_machine_reaches_already_is_refused(bare: World) -> None:
    assert refused(stack_folder(bare, NETWORK="172.17.5.0/24")) == (
        "this machine: the network 172.17.5.0/24 overlaps 172.17.0.0/16 on docker0 of this machine; "
        "give this stack another one: pulumi config set network 192.168.57.0/24\n"
    )
    assert not (bare.work / "key").exists()


def test_routes_that_can_not_be_read_are_no_free_network(bare: World) -> None:
    bare.stub("here", "ip", "#!/bin/sh\nexit 1\n")
    assert "this machine: can't read this machine's routes" in refused(stack_folder(bare))
    assert NEW_NETWORK.pattern not in bare.calls()


def test_a_stack_gets_a_network_of_its_own(bare: World) -> None:
    succeeded(stack_folder(bare))
    assert NEW_NETWORK.pattern in bare.calls()


def test_the_stacks_own_network_is_no_overlap(bare: World) -> None:
    bare.stub("here", "ip", f"{ROUTES}echo 192.168.56.0/24 dev br-0123456789ab proto kernel scope link\n")
    own = Answer("here: docker network inspect * swarm-site-dev", "192.168.56.0/24\n")
    bare.plan(DOCKER_ROOT, DAEMON_ANSWERS, own)
    succeeded(stack_folder(bare))
    assert NEW_NETWORK.pattern not in bare.calls()


def test_a_network_does_not_change_while_its_machines_exist(bare: World) -> None:
    bare.plan(DOCKER_ROOT, DAEMON_ANSWERS, Answer("here: docker network inspect * swarm-site-dev", "10.9.0.0/24\n"))
    assert refused(stack_folder(bare)) == (
        "this machine: this stack uses network 10.9.0.0/24, which can't change while its machines exist; "
        "first run: make down\n"
    )


@pytest.mark.parametrize(
    ("recorded", "present", "wanted"), [(None, "docker", "libvirt"), ("libvirt\n", "libvirt", "docker")]
)
def test_the_provider_does_not_change_while_its_machines_exist(
    bare: World, recorded: str | None, present: str, wanted: str
) -> None:
    bare.work.mkdir()
    (bare.work / "nodes").touch()
    if recorded:
        (bare.work / "provider").write_text(recorded)
    assert refused(stack_folder(bare, PROVIDER=wanted)) == (
        f"this machine: this stack's machines were created with provider {present}; "
        f"to change it to {wanted}, first run: make down\n"
    )
    assert bare.calls() == []


def test_a_network_that_docker_rejects_fails_with_its_error(bare: World) -> None:
    bare.plan(
        DOCKER_ROOT, DAEMON_ANSWERS, NO_NETWORK, Answer("here: docker network create *", "Pool overlaps\n", status=1)
    )
    assert refused(stack_folder(bare)) == (
        "this machine: can't create the network 192.168.56.0/24: Pool overlaps; "
        "give this stack another one: pulumi config set network 192.168.57.0/24\n"
    )


def limited(world: World, count: int, limit: str) -> Finished:
    """Run stack_folder.sh for this many nodes on a machine with a limit of inotify instances."""
    (world.folder / "limit").write_text(limit)
    nodes = "\n".join(f"core-{number:02d} 192.168.56.{10 + number} manager" for number in range(1, count + 1))
    changes = {"/proc/sys/fs/inotify/max_user_instances": f"{world.folder}/limit"}
    return world.altered("machines/stack_folder.sh", changes, **STACK_FOLDER | {"NODES": nodes})


def test_more_nodes_than_the_machine_has_inotify_instances_for_are_refused(bare: World) -> None:
    assert refused(limited(bare, 25, "128\n")) == (
        "this machine: the nodes on this machine need 133 inotify instances, and it allows 128; "
        "to allow more, run as root: sysctl -w fs.inotify.max_user_instances=1024 "
        "(/etc/sysctl.d keeps it over a reboot)\n"
    )
    assert not bare.orders(), "nothing was created"
    succeeded(limited(bare, 24, "128\n"))
    succeeded(limited(bare, 25, "1024\n"))


def test_nodes_of_other_stacks_count_and_those_that_exist_are_not_refused(bare: World) -> None:
    for stack, provider in (("blue", "docker"), ("green", "ssh")):
        for number in (1, 2):
            (bare.work.parent / stack / f"machines/core-0{number}").mkdir(parents=True)
            (bare.work.parent / stack / f"machines/core-0{number}/complete").touch()
        (bare.work.parent / stack / "provider").write_text(f"{provider}\n")
    assert "need 28 inotify instances" in refused(limited(bare, 2, "27"))
    succeeded(limited(bare, 2, "28"))
    for number in (1, 2):
        bare.create(f"core-0{number}")
    succeeded(limited(bare, 2, "27"))


def test_too_little_memory_is_refused_before_the_first_machine_only(bare: World) -> None:
    error = refused(stack_folder(bare, MEMORY_WANTED="999999999"))
    assert re.fullmatch(
        r"this machine: the machines need 999999999 MB of memory and \d+ MB are free; "
        r"lower machines.memory or machines.count, or stop something\n",
        error,
    )
    bare.create("core-01")
    succeeded(stack_folder(bare, MEMORY_WANTED="999999999"))


def test_too_little_disk_is_refused(bare: World) -> None:
    bare.free_disk(100)
    assert refused(stack_folder(bare)) == (
        "this machine: the machines need 2048 MB of disk below / and 100 MB are free; make room\n"
    )


def test_a_folder_of_docker_that_is_not_visible_here_is_not_judged(bare: World) -> None:
    bare.stub("here", "df", "#!/bin/sh\nexit 1\n")
    succeeded(stack_folder(bare))


def test_a_docker_daemon_that_does_not_answer_is_refused(bare: World) -> None:
    bare.plan(Answer("here: docker info", status=1))
    error = "this machine: the Docker daemon of this machine does not answer; run: tools/setup up\n"
    assert refused(stack_folder(bare)) == error


def test_a_missing_tool_is_refused_by_name(bare: World) -> None:
    (bare.stubs / "here/vagrant").unlink()
    programs = bare.folder / "programs"
    programs.mkdir()
    for name in ("bash", "ssh-keygen", "flock", "mkdir", "chmod", "ls", "awk"):
        program = shutil.which(name)
        assert program
        (programs / name).symlink_to(program)
    done = stack_folder(bare, PATH=f"{bare.stubs}/here:{programs}")
    assert refused(done) == "this machine: vagrant is not installed; run: tools/setup up\n"


# --- create.sh --------------------------------------------------------------------------------------------------------

MACHINE = {"NODE": "core-01", "VAGRANTFILE": "one\n", "SSH_CONFIG": "Host core-01\n"}
UP = "here: vagrant up --provider docker"
DESTROY = Answer("here: vagrant destroy -f")
CREATED = [*NOTHING_EXISTS, Answer(UP), Answer("core-01: docker info")]


def create(world: World, **changes: str) -> Finished:
    return world.script("machines/create.sh", **MACHINE | changes)


def test_a_machine_is_created_in_its_own_folder_and_waited_for(world: World) -> None:
    world.plan(*CREATED)
    assert re.search(r"core-01: up after \d+ s\n$", succeeded(create(world)))
    folder = world.work / "machines/core-01"
    assert (folder / "Vagrantfile").read_text() == "one\n"
    assert (folder / "ssh_config").read_text() == "Host core-01\n"
    assert (folder / "complete").exists()


def test_a_users_own_vagrant_variables_do_not_reach_a_machines_vagrant(world: World) -> None:
    record = 'env | grep "^VAGRANT_" | cut -d= -f1 >"$STUBS/variables"; '
    world.stub("here", "vagrant", RECORDER.replace("name=", record + "name=", 1))
    world.plan(*NOTHING_EXISTS, Answer(UP), Answer("core-01: docker info"))
    steering = ("CWD", "VAGRANTFILE", "DOTFILE_PATH", "DEFAULT_PROVIDER", "PREFERRED_PROVIDERS", "ALIAS_FILE")
    own = {f"VAGRANT_{name}": "/elsewhere" for name in steering}
    succeeded(create(world, **own, VAGRANT_HOME="/a/home"))
    assert (world.stubs / "variables").read_text() == "VAGRANT_HOME\n"


def test_an_existing_machine_is_started_and_not_created_again(world: World) -> None:
    world.plan(*CREATED)
    succeeded(create(world))
    (world.work / "machines/core-01/kept").touch()
    succeeded(create(world))
    assert (world.work / "machines/core-01/kept").exists()
    assert DESTROY.pattern not in world.calls()


def test_a_machine_that_a_killed_run_left_incomplete_is_created_again(world: World) -> None:
    world.plan(Answer(UP, status=1, once=True), *CREATED, DESTROY)
    assert refused(create(world)).startswith("core-01: vagrant up failed")
    succeeded(create(world))
    assert DESTROY.pattern in world.calls()


def test_a_machine_with_changed_settings_is_created_again(world: World) -> None:
    world.plan(*CREATED, DESTROY)
    succeeded(create(world))
    (world.work / "machines/core-01/old").touch()
    succeeded(create(world, VAGRANTFILE="another\n"))
    assert not (world.work / "machines/core-01/old").exists()
    assert (world.work / "machines/core-01/Vagrantfile").read_text() == "another\n"


def test_a_machine_that_vagrant_can_not_create_fails_with_the_end_of_its_log(world: World) -> None:
    world.plan(*NOTHING_EXISTS, Answer(UP, "line one\nthe image is missing\n", status=1))
    error = refused(create(world))
    assert error.startswith("core-01: vagrant up failed: line one\nthe image is missing\n")
    assert error.endswith("log: .work/dev/machines/core-01/log; run again: make up\n")


def test_a_vagrant_that_was_disturbed_by_a_vanished_container_is_run_again(world: World) -> None:
    world.plan(Answer(UP, "Error: No such object: 0123456789ab\n", status=1, once=True), *CREATED)
    succeeded(create(world))
    assert world.calls().count(UP) == 2


def test_a_vagrant_that_is_disturbed_every_time_is_given_up(world: World) -> None:
    world.plan(Answer(UP, "Error: No such object: 0123456789ab\n", status=1), *NOTHING_EXISTS)
    assert refused(create(world)).startswith("core-01: vagrant up failed: Error: No such object")
    assert world.calls().count(UP) == 5


def test_a_machine_on_which_docker_does_not_answer_fails_and_says_how_to_log_in(world: World) -> None:
    world.plan(*NOTHING_EXISTS, Answer(UP), Answer("core-01: docker info", "no daemon\n", status=1))
    assert refused(create(world)) == (
        "core-01: Docker did not answer within 90 s; log: .work/dev/machines/core-01/log; "
        "log in: make ssh NODE=core-01\n"
    )
    assert "no daemon" in (world.work / "machines/core-01/log").read_text()


# --- delete.sh --------------------------------------------------------------------------------------------------------


def delete(world: World) -> Finished:
    return world.delete("machines/delete.sh", NODE="core-01")


def test_a_machine_is_deleted_with_its_container_volume_and_folder(world: World) -> None:
    world.create("core-01")
    (world.work / "machines/core-01/Vagrantfile").touch()
    world.plan(
        *(Answer(f"here: docker {words} swarm-site-dev-core-01") for words in ("container inspect", "rm -fv")),
        *(Answer(f"here: docker {words} swarm-site-dev-core-01") for words in ("volume inspect", "volume rm")),
        DAEMON_ANSWERS,
        DESTROY,
    )
    succeeded(delete(world))
    assert world.orders() == [
        "here: vagrant destroy -f",
        "here: docker rm -fv swarm-site-dev-core-01",
        "here: docker volume rm swarm-site-dev-core-01",
    ]
    assert not (world.work / "machines/core-01").exists()


def test_a_machine_that_vagrant_can_not_destroy_is_removed_directly(world: World) -> None:
    world.create("core-01")
    (world.work / "machines/core-01/Vagrantfile").touch()
    world.plan(*NOTHING_EXISTS, Answer(DESTROY.pattern, "it is broken\n", status=1))
    output = succeeded(delete(world))
    assert "core-01: vagrant destroy failed (it is broken); removing the machine directly\n" in output


def test_a_machine_is_not_forgotten_while_the_daemon_does_not_answer(world: World) -> None:
    world.create("core-01")
    world.plan(Answer("here: docker info", status=1))
    error = "core-01: the Docker daemon of this machine does not answer; run: tools/setup up\n"
    assert refused(delete(world)) == error
    assert (world.work / "machines/core-01/ssh_config").exists()


def test_a_container_that_can_not_be_removed_fails_and_its_folder_stays(world: World) -> None:
    world.create("core-01")
    world.plan(DAEMON_ANSWERS, Answer("here: docker container inspect *"), Answer("here: docker rm *", status=1))
    assert delete(world).returncode == 1
    assert (world.work / "machines/core-01/ssh_config").exists()
    assert not (world.work / "machines/core-01/complete").exists(), "half removed, it would count as dead"


# --- sweep.sh ---------------------------------------------------------------------------------------------------------


def test_the_sweep_removes_leftover_machines_and_then_the_stacks_folder(world: World) -> None:
    world.create("core-01")
    world.plan(
        Answer("here: docker ps -a --filter label=swarm-site.stack=dev *", "core-07\n"),
        Answer("here: docker container inspect swarm-site-dev-core-07"),
        Answer("here: docker rm -fv swarm-site-dev-core-07"),
        Answer("here: docker network inspect swarm-site-dev"),
        Answer("here: docker network rm swarm-site-dev"),
        *NOTHING_EXISTS,
    )
    assert succeeded(world.delete("machines/sweep.sh", NODE="")) == (
        "core-01: removed leftover machine\ncore-07: removed leftover machine, which had no folder\n"
    )
    assert "here: docker rm -fv swarm-site-dev-core-07" in world.calls()
    assert world.calls()[-1] == "here: docker network rm swarm-site-dev"
    assert not world.work.exists()


def test_the_sweep_forgets_nothing_while_the_daemon_does_not_answer(world: World) -> None:
    world.plan(Answer("here: docker*", "Cannot connect to the Docker daemon\n", status=1))
    assert refused(world.delete("machines/sweep.sh", NODE="")).endswith(
        "this machine: can't list the stack's machines (see above); then run again: make down\n"
    )
    assert (world.work / "locks").exists()


def test_leftover_containers_are_listed_by_their_node_label(world: World) -> None:
    pattern = 'here: docker ps -a --filter label=swarm-site.stack=dev --format {{.Label "swarm-site.node"}}'
    world.plan(Answer(pattern, "core-07\n"))
    assert succeeded(world.lib("leftovers", source="machines/providers/docker.sh")) == "core-07\n"


# --- power.sh ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Answer("here: docker container inspect -f * swarm-site-dev-core-01", "on\n"), "on\n"),
        (Answer("here: docker container inspect *", status=1), "none\n"),
    ],
)
def test_a_container_reports_its_power_state(world: World, answer: Answer, state: str) -> None:
    world.plan(answer)
    assert succeeded(world.script("machines/power.sh", NODE="core-01", ACTION="state")) == state


@pytest.mark.parametrize(("action", "order"), [("start", "start"), ("off", "kill")])
def test_a_container_is_started_and_powered_off(world: World, action: str, order: str) -> None:
    world.plan(Answer(f"here: docker {order} swarm-site-dev-core-01", "its name\n"))
    assert succeeded(world.script("machines/power.sh", NODE="core-01", ACTION=action)) == ""
    assert world.calls() == [f"here: docker {order} swarm-site-dev-core-01"]
