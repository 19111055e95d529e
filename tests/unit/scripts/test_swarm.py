"""templates/swarm/: members, the cluster, the manager alias, and the wait for services."""

import fcntl
import os
import re

import pytest

from tests.unit.shell import (
    DETAILS,
    HEALTHY,
    NODES_OF,
    REPLICATED_SERVICES,
    SSH,
    Answer,
    Finished,
    World,
    entries,
    manages,
    no_manager,
    refused,
    succeeded,
)

# --- proxy_command.sh, probe.sh ---------------------------------------------------------------------------------------

TUNNEL_SSH = """#!/usr/bin/env bash
if [[ $5 == -W ]]; then
  echo "tunnel to $6 of $7"
  exec cat
fi
exec "${0%/*}/node-ssh" "$@"
"""


@pytest.fixture
def managers(world: World) -> World:
    """Three nodes whose swarm has no leader yet."""
    world.stub("here", "node-ssh", SSH)
    world.stub("here", "ssh", TUNNEL_SSH)
    world.nodes("core-01", "core-02", "core-03")
    return world


def led(*names: str) -> list[Answer]:
    """Return the answers of managers, of which these know a leader."""
    no_leader = Answer("*: docker node ls -q", "Error response from daemon: The swarm does not have a leader\n", 1)
    return [*(Answer(f"{name}: docker node ls -q", "id1\n") for name in names), no_leader]


def tried(world: World) -> list[str]:
    """Return the nodes that were asked for a leader, in order."""
    return [call.partition(":")[0] for call in world.calls()]


def test_the_alias_leads_to_the_first_manager_with_a_leader(managers: World) -> None:
    managers.plan(*led("core-02", "core-03"))
    done = managers.script("swarm/proxy_command.sh", stdin="the caller's bytes\n")
    assert succeeded(done) == "tunnel to localhost:22 of core-02\nthe caller's bytes\n"
    assert tried(managers) == ["core-01", "core-02"]


def test_the_alias_tries_neither_workers_nor_machines_that_were_not_completed(managers: World) -> None:
    managers.nodes("core-01", "core-02", "core-03", managers=2)
    (managers.work / "machines/core-01/complete").unlink()
    managers.plan(*led("core-01", "core-03"))
    done = managers.script("swarm/proxy_command.sh")
    assert refused(done) == "no swarm manager with a quorum answers (tried: core-01 core-02); run: make status\n"
    assert tried(managers) == ["core-02"]


def test_a_probe_asks_one_host_for_a_leader(managers: World) -> None:
    managers.plan(*led("core-02"))
    assert managers.script("swarm/probe.sh", "core-01").returncode == 1
    assert succeeded(managers.script("swarm/probe.sh", "core-02")) == ""
    assert tried(managers) == ["core-01", "core-02"]


def test_a_probe_does_not_ask_a_host_that_was_not_adopted_to_the_end(managers: World) -> None:
    managers.plan(*led("core-01"))
    (managers.work / "machines/core-01/complete").unlink()
    assert managers.script("swarm/probe.sh", "core-01").returncode == 1
    assert tried(managers) == []


def test_a_probe_without_a_host_reports_that_no_manager_answers(managers: World) -> None:
    assert refused(managers.script("swarm/probe.sh")) == "no swarm manager with a quorum answers; run: make status\n"


# --- leave.sh ---------------------------------------------------------------------------------------------------------

LEAVING = "core-02 ready drain true leaving the swarm"
LEFT = "id1 core-01\nid2 core-02\n"
HERE = LEFT + "id3 core-03\n"
STALE = HERE + "id4 core-03\n"
DOCKER_ANSWERS = Answer("core-03: docker info")
LEAVES = [
    DOCKER_ANSWERS,
    Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
    Answer("core-03: docker swarm leave --force"),
]


def leave(world: World, node: str = "core-03") -> Finished:
    return world.delete("swarm/leave.sh", NODE=node)


def test_a_leave_asks_no_node_while_its_run_removes_the_whole_swarm(trio: World) -> None:
    (trio.work / "leaving").write_text(f"{os.getpid()}\n")
    assert succeeded(leave(trio)) == "core-03: the whole swarm is being removed; nothing to hand over\n"
    assert trio.connections() == []


def test_a_leave_ignores_the_mark_of_another_run(trio: World) -> None:
    (trio.work / "leaving").write_text(f"{os.getpid()}0\n")
    trio.plan(*manages("core-01"), *entries("core-01", STALE, STALE, LEFT), *LEAVES)
    assert "left in" in succeeded(leave(trio))


def test_a_leave_drains_demotes_leaves_and_removes_every_entry_in_this_order(trio: World) -> None:
    trio.plan(*manages("core-01"), *entries("core-01", STALE), *LEAVES)
    assert re.fullmatch(r"core-03: left in \d+ s\n", succeeded(leave(trio)))
    assert trio.orders() == [
        "core-01: docker node update --availability drain --label-add swarm-site.drained=leaving the swarm core-03",
        "core-01: docker node demote core-03",
        "core-03: docker swarm leave --force",
        "core-01: docker node demote id3",
        "core-01: docker node rm --force id3",
        "core-01: docker node demote id4",
        "core-01: docker node rm --force id4",
    ]


@pytest.mark.parametrize(
    ("question", "answer", "missing"),
    [
        (NODES_OF, "core-01 Ready Active Leader\n", "node core-02"),
        (NODES_OF, HEALTHY.replace("core-02 Ready Active", "core-02 Down Active"), "node core-02"),
        (NODES_OF, HEALTHY.replace("core-02 Ready Active", "core-02 Ready Drain"), "node core-02"),
        (NODES_OF, HEALTHY.replace("Reachable\ncore-03", "Unreachable\ncore-03"), "node core-02"),
        (REPLICATED_SERVICES, "backend 1/2\nother 2/2\n", "service backend (1/2)"),
        ("{}: docker service ps proxy *", "Running 1 second ago\nStarting 1 second ago\n", "service proxy (1/2)"),
    ],
    ids=["missing", "down", "drained", "unreachable", "too few tasks", "too few proxies"],
)
def test_a_leave_waits_until_all_others_are_healthy_and_names_what_is_not(
    trio: World, question: str, answer: str, missing: str
) -> None:
    found = Answer(question.format("core-01"), answer)
    trio.plan(found, *manages("core-01"), *entries("core-01", HERE), DOCKER_ANSWERS)
    done = leave(trio)
    assert refused(done) == f"core-03: can't leave: still unhealthy after 300 s: {missing}; run: make status\n"
    assert "core-03: waiting for all other nodes and services to be healthy, " in done.stdout
    assert trio.orders() == []


def test_a_leave_starts_once_all_others_are_healthy(trio: World) -> None:
    trio.plan(
        Answer(NODES_OF.format("core-01"), "core-01 Ready Active Leader\n", once=True),
        *manages("core-01"),
        *entries("core-01", HERE, HERE, LEFT),
        *LEAVES,
    )
    assert "left in" in succeeded(leave(trio))


def test_a_leave_does_not_wait_for_a_node_whose_own_leave_was_interrupted(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node inspect -f *", DETAILS.replace("core-02 ready active true ", LEAVING)),
        Answer(NODES_OF.format("core-01"), HEALTHY.replace("core-02 Ready Active", "core-02 Ready Drain")),
        *manages("core-01"),
        *entries("core-01", HERE, HERE, LEFT),
        *LEAVES,
    )
    assert "left in" in succeeded(leave(trio))


def test_an_interrupted_leave_is_continued(trio: World) -> None:
    answers = [*manages("core-01"), *entries("core-01", HERE), *LEAVES]
    trio.plan(Answer("core-01: docker node demote core-03", status=1), *answers)
    assert leave(trio).returncode == 1
    trio.plan(*answers)
    succeeded(leave(trio))


@pytest.mark.parametrize(("state", "left"), [("active", ["core-03: docker swarm leave --force"]), ("inactive", [])])
def test_a_leave_that_was_interrupted_after_its_entry_was_removed_hands_nothing_over(
    trio: World, state: str, left: list[str]
) -> None:
    trio.plan(
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", f"{state}\n"),
        *manages("core-01"),
        *entries("core-01", LEFT),
        *LEAVES,
    )
    assert "left in" in succeeded(leave(trio))
    assert trio.orders() == left


def test_a_leave_does_not_wait_for_a_node_that_is_not_in_todays_settings(trio: World) -> None:
    trio.nodes("core-01", "core-02")
    trio.create("core-04")
    trio.plan(*manages("core-01"), *entries("core-01", HERE, HERE, LEFT), *LEAVES)
    succeeded(leave(trio))


@pytest.mark.parametrize("is_off", [True, False], ids=["off", "without its Docker"])
def test_of_a_dead_node_only_the_entries_are_removed(trio: World, is_off: bool) -> None:
    if is_off:
        trio.kill("core-03")
    trio.plan(Answer("core-03: docker info", status=1), *manages("core-01"), *entries("core-01", STALE))
    output = succeeded(leave(trio))
    assert output.startswith("core-03: does not answer, or its Docker does not; removing its entry\ncore-03: left in")
    assert trio.orders() == [
        "core-01: docker node demote id3",
        "core-01: docker node rm --force id3",
        "core-01: docker node demote id4",
        "core-01: docker node rm --force id4",
    ]


def test_a_leave_asks_the_next_manager_when_the_first_is_dead(trio: World) -> None:
    trio.kill("core-01")
    trio.plan(
        Answer(NODES_OF.format("core-02"), "core-01 Ready Active \ncore-02 Ready Active Leader\n"),
        *manages("core-02"),
        *entries("core-02", HERE, HERE, LEFT),
        *LEAVES,
    )
    succeeded(leave(trio))


def test_an_entry_that_can_not_be_removed_fails_and_says_where_to_look(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node rm *", status=1),
        *manages("core-01"),
        *entries("core-01", STALE),
        *LEAVES,
    )
    assert refused(leave(trio)).endswith(
        "core-03: left, but its entry is still in the swarm; look: make ssh NODE=core-01, then docker node ls\n"
    )


def test_the_only_manager_of_a_complete_cluster_refuses_to_leave(trio: World) -> None:
    trio.plan(no_manager("core-01"), no_manager("core-02"), *manages("core-03"))
    assert refused(leave(trio)) == (
        "core-03: is the only manager; removing it would destroy the swarm. Set swarm.managers to 3 first, "
        "or remove the whole stack: make down\n"
    )
    assert trio.orders() == []
    assert (trio.work / "swarm").exists()


def test_the_only_manager_of_an_incomplete_cluster_leaves_and_its_swarm_is_forgotten(world: World) -> None:
    world.nodes("core-01")
    (world.work / "swarm").touch()
    assert succeeded(leave(world, "core-01")) == "core-01: skipping deregistration: no other manager answers\n"
    assert not (world.work / "swarm").exists()


def test_a_node_of_an_incomplete_cluster_leaves_at_once(trio: World) -> None:
    (trio.work / "complete").unlink()
    trio.plan(*manages("core-01"), *entries("core-01", HERE, HERE, LEFT), *LEAVES)
    succeeded(leave(trio))
    assert trio.orders() == ["core-01: docker node demote core-03", "core-03: docker swarm leave --force"]


def test_a_leave_without_the_list_of_nodes_fails(trio: World) -> None:
    (trio.work / "nodes").unlink()
    assert refused(leave(trio)) == (
        "core-03: the stack's folder .work/dev was removed or emptied, and nothing is known of the swarm; "
        "write it again: make up\n"
    )
    assert trio.calls() == []


def leave_out_of_turn(trio: World) -> Finished:
    text = trio.altered_text("swarm/leave.sh", {'"$LOCKS/leave" 1800': '"$LOCKS/leave" 0'})
    with (trio.work / "locks/leave").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return trio.without_tree(text, "swarm/leave.sh", NODE="core-03")


def test_one_leave_waits_for_another(trio: World) -> None:
    trio.plan(*manages("core-01"), *entries("core-01", HERE), *LEAVES)
    assert "the lock .work/dev/locks/leave was not released" in refused(leave_out_of_turn(trio))
    assert trio.orders() == []


def test_a_leave_waits_for_another_while_the_swarm_elects_a_leader(trio: World) -> None:
    trio.plan(no_manager("core-01"), no_manager("core-02"))
    assert "the lock .work/dev/locks/leave was not released" in refused(leave_out_of_turn(trio))


@pytest.mark.parametrize(
    ("listed", "docker"), [(LEFT, 0), (HERE, 1)], ids=["left before an interruption", "without its Docker"]
)
def test_a_node_that_others_may_be_waiting_for_takes_no_turn(trio: World, listed: str, docker: int) -> None:
    trio.plan(Answer("core-03: docker info", status=docker), *manages("core-01"), *entries("core-01", listed), *LEAVES)
    assert "left in" in succeeded(leave_out_of_turn(trio))


# --- join.sh ----------------------------------------------------------------------------------------------------------

TOKEN = "SWMTKN-1-secret"
STATE = "docker info -f {{.Swarm.LocalNodeState}} *"
CURL = """#!/usr/bin/env bash
printf '%s: curl %s\\n' "$ON_NODE" "$*" >>"$STUBS/calls"
printf '%s\\n' "$(cat)" >>"$STUBS/bodies"
if [[ -e $STUBS/refusal ]]; then cat "$STUBS/refusal" && exit 22; fi
"""


def join(world: World, node: str, role: str = "manager") -> Finished:
    world.stub("node", "curl", CURL)
    return world.script("swarm/join.sh", NODE=node, NODE_ADDRESS=f"192.0.2.{10 + int(node[-1])}", ROLE=role)


def body(world: World) -> str:
    """Return the requests sent to the Docker sockets of nodes."""
    return (world.stubs / "bodies").read_text()


@pytest.fixture
def fresh(world: World) -> World:
    """Nodes without a swarm."""
    world.nodes("core-01", "core-02", "core-03")
    return world


@pytest.fixture
def begun(fresh: World) -> World:
    """A started swarm whose members have not all joined yet."""
    (fresh.work / "swarm").touch()
    return fresh


@pytest.mark.parametrize("number", [1, 2])
def test_the_first_manager_that_is_up_starts_the_swarm_drained(fresh: World, number: int) -> None:
    node = f"core-0{number}"
    fresh.plan(
        Answer(f"{node}: {STATE}", "inactive false \n"),
        *(no_manager(f"core-0{other}") for other in (1, 2, 3) if other != number),
    )
    assert succeeded(join(fresh, node)) == f"{node}: started the swarm\n"
    own = f"192.0.2.{10 + number}"
    assert body(fresh) == (
        f'{{"ListenAddr":"{own}:2377","AdvertiseAddr":"{own}","DataPathAddr":"{own}","Availability":"drain"}}\n'
    )
    assert (fresh.work / "swarm").exists()
    assert any("--unix-socket /var/run/docker.sock" in call and "/swarm/init" in call for call in fresh.calls())


def test_a_node_joins_drained_through_a_living_manager_once_its_stale_entries_are_removed(begun: World) -> None:
    begun.kill("core-01")
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-02"),
        *entries("core-02", "id2 core-02\nid9 core-03\n", "id2 core-02\n"),
        Answer("core-02: docker swarm join-token -q worker", f"{TOKEN}\n"),
    )
    assert "joined through core-02 in" in succeeded(join(begun, "core-03", "worker"))
    assert body(begun) == (
        '{"ListenAddr":"192.0.2.13:2377","AdvertiseAddr":"192.0.2.13","DataPathAddr":"192.0.2.13","Availability":"drain",'
        f'"RemoteAddrs":["192.0.2.12:2377"],"JoinToken":"{TOKEN}"}}\n'
    )
    removal = begun.calls().index("core-02: docker node rm --force id9")
    assert removal < next(index for index, call in enumerate(begun.calls()) if "/swarm/join" in call)


def test_a_locked_node_joins_again_only_if_another_manager_has_the_swarm(begun: World) -> None:
    leave = "core-03: docker swarm leave --force"
    locked = Answer(f"core-03: {STATE}", "locked false \n")
    begun.plan(locked, no_manager("core-01"), no_manager("core-02"))
    assert refused(join(begun, "core-03", "manager")) == (
        "core-03: is locked, and no other manager answers; "
        "unlock it: make ssh NODE=core-03, then: sudo docker swarm unlock\n"
    )
    assert leave not in begun.calls()
    token = Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n")
    begun.plan(locked, Answer(leave), *manages("core-01"), *entries("core-01", "id1 core-01\n"), token)
    assert "joined through core-01 in" in succeeded(join(begun, "core-03", "manager"))
    assert leave in begun.calls()


def test_a_stale_entry_that_can_not_be_removed_fails_the_join_with_the_managers_error(begun: World) -> None:
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        Answer("core-01: docker node demote id9", "can not be demoted\n", status=1),
        Answer("core-01: docker node rm --force id9", status=1),
        *manages("core-01"),
        *entries("core-01", "id9 core-03\n"),
    )
    error = "can not be demoted\ncore-03: core-01 rejected the join (see above); run again: make up\n"
    assert refused(join(begun, "core-03")) == error
    assert not (begun.stubs / "bodies").exists()


def test_the_token_is_in_no_argument_and_in_no_output(begun: World) -> None:
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    done = join(begun, "core-03")
    assert TOKEN in body(begun)
    for text in (done.stdout, done.stderr, *begun.calls(), *begun.connections()):
        assert TOKEN not in text


def test_a_rejected_join_fails_with_the_daemons_error_and_without_the_token(begun: World) -> None:
    (begun.stubs / "refusal").write_text('{"message":"no quorum"}')
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    error = 'core-03: swarm join failed: {"message":"no quorum"}; run again: make up\n'
    assert refused(join(begun, "core-03")) == error


def test_a_join_that_docker_continues_in_the_background_is_waited_for(begun: World) -> None:
    (begun.stubs / "refusal").write_text(
        "Timeout was reached. The attempt to join the swarm will continue in the background."
    )
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "pending\n", once=True),
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-01" in succeeded(join(begun, "core-03"))


@pytest.mark.parametrize(("manages_itself", "role"), [("true", "manager"), ("false", "worker")])
def test_a_member_in_its_role_is_left_alone(begun: World, manages_itself: str, role: str) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        *manages("core-01"),
    )
    assert succeeded(join(begun, "core-02", role)) == ""
    assert begun.orders() == []


def test_a_manager_restores_the_mark_of_a_started_swarm(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        *manages("core-01"),
    )
    succeeded(join(fresh, "core-02"))
    assert (fresh.work / "swarm").exists()


def test_a_member_is_left_alone_while_no_other_manager_answers(begun: World) -> None:
    begun.plan(Answer(f"core-02: {STATE}", "active true id2\n"), no_manager("core-01"), no_manager("core-03"))
    assert succeeded(join(begun, "core-02")) == ""
    assert begun.orders() == []


MANAGES = "docker info -f {{.Swarm.ControlAvailable}}"
ROLE_CHANGES = pytest.mark.parametrize(
    ("manages_itself", "role", "order"), [("false", "manager", "promote"), ("true", "worker", "demote")]
)


@ROLE_CHANGES
def test_a_member_changes_its_role_through_another_manager_and_waits_for_the_change(
    begun: World, manages_itself: str, role: str, order: str
) -> None:
    begun.plan(
        Answer(f"core-01: docker node {order} core-02"),
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        Answer(f"core-02: {MANAGES}", f"{manages_itself}\n", once=True),
        Answer(f"core-02: {MANAGES}", f"{str(role == 'manager').lower()}\n"),
        *manages("core-01"),
    )
    output = succeeded(join(begun, "core-02", role))
    assert re.fullmatch(rf"core-02: {order}d to {role} in 6\d s\n", output), "it did not wait once"
    assert begun.orders() == [f"core-01: docker node {order} core-02"]


@ROLE_CHANGES
def test_a_role_that_is_refused_or_never_changes_fails(
    begun: World, manages_itself: str, role: str, order: str
) -> None:
    answers = [
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        Answer(f"core-02: {MANAGES}", f"{manages_itself}\n"),
        *manages("core-01"),
    ]
    begun.plan(Answer(f"core-01: docker node {order} core-02"), *answers)
    error = f"core-02: the swarm did not make this node a {role} within 90 s; run: make repair\n"
    assert refused(join(begun, "core-02", role)) == error
    begun.plan(Answer(f"core-01: docker node {order} core-02", "no quorum\n", status=1), *answers)
    error = f"core-02: core-01 could not {order} this node: no quorum; run again: make up\n"
    assert refused(join(begun, "core-02", role)) == error


@ROLE_CHANGES
def test_no_role_changes_while_no_other_manager_answers(
    begun: World, manages_itself: str, role: str, order: str
) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"), no_manager("core-01"), no_manager("core-03")
    )
    error = f"core-02: no other manager answers, so this node can't become a {role}; run: make status\n"
    assert refused(join(begun, "core-02", role)) == error
    assert begun.orders() == []


def test_a_member_that_the_swarm_has_forgotten_joins_again(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        Answer("core-01: docker node ls -q", "id1\nid3\n"),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-01" in succeeded(join(begun, "core-02"))
    assert begun.orders()[0] == "core-02: docker swarm leave --force"


def test_a_member_does_not_leave_because_a_question_got_no_answer(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        Answer("core-01: docker node ls -q", "id1\nid2\n", once=True),
        Answer("core-01: docker node ls -q", status=255),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    join(begun, "core-02")
    assert "core-02: docker swarm leave --force" not in begun.calls()


def test_a_member_of_a_swarm_that_it_lost_leaves_it_first(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "error false \n"),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    succeeded(join(begun, "core-02"))
    assert begun.orders()[0] == "core-02: docker swarm leave --force"


def test_no_second_swarm_is_started_beside_one_whose_manager_answers(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-01: {STATE}", "inactive false \n"),
        *manages("core-02"),
        *entries("core-02", ""),
        Answer("core-02: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-02" in succeeded(join(fresh, "core-01"))


def test_no_second_swarm_is_started_beside_one_that_does_not_answer(begun: World) -> None:
    begun.plan(Answer(f"core-01: {STATE}", "inactive false \n"), no_manager("core-02"), no_manager("core-03"))
    assert refused(join(begun, "core-01")) == (
        "core-01: no swarm manager answers, so this node can't join; run: make repair\n"
    )
    assert not (begun.stubs / "bodies").exists()


def test_a_second_manager_waits_for_the_one_that_starts_the_swarm_and_joins(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-02: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    # The lock is held at the first attempt, and released once the swarm is started.
    fresh.stub("here", "flock", '#!/bin/sh\n[ "$1" = -w ] && touch "$WORK/swarm"\n')
    assert "joined through core-01" in succeeded(join(fresh, "core-02"))
    assert not any("/swarm/init" in call for call in fresh.calls())


def test_a_worker_waits_for_a_swarm_for_a_limited_time(fresh: World) -> None:
    fresh.plan(Answer(f"core-02: {STATE}", "inactive false \n"))
    done = join(fresh, "core-02", "worker")
    assert refused(done) == "core-02: no manager started the swarm within 180 s; run again: make up\n"
    assert "core-02: waiting for a manager to start the swarm, " in done.stdout


def test_a_node_that_does_not_answer_fails_its_join_with_the_error_of_ssh(fresh: World) -> None:
    fresh.kill("core-02")
    done = join(fresh, "core-02")
    assert done.returncode != 0
    assert "No route to host" in done.stderr


# --- cluster.sh, dissolve.sh ------------------------------------------------------------------------------------------


def test_a_cluster_is_complete_once_its_swarm_was_started_and_no_longer_dissolving(trio: World) -> None:
    (trio.work / "leaving").touch()
    (trio.work / "complete").unlink()
    assert succeeded(trio.script("swarm/cluster.sh")) == ""
    assert not (trio.work / "leaving").exists()
    assert (trio.work / "complete").exists()


def test_without_a_swarm_there_is_no_cluster(fresh: World) -> None:
    assert refused(fresh.script("swarm/cluster.sh")) == "this machine: the swarm was not started; run again: make up\n"
    assert not (fresh.work / "complete").exists()


SERVICES = Answer("core-01: docker service ls -q --filter label=swarm-site", "s1\ns2\n")
CONFIGS = Answer("core-01: docker config ls -q --filter label=swarm-site", "c1\n")


def test_dissolving_a_cluster_removes_its_services_and_tells_the_leaves_of_the_same_run(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node ls -q", "id1\n"),
        SERVICES,
        Answer("core-01: docker service rm s1 s2"),
        CONFIGS,
        Answer("core-01: docker config rm c1"),
    )
    assert succeeded(trio.delete("swarm/dissolve.sh")) == ""
    assert (trio.work / "leaving").read_text() == f"{os.getpid()}\n"
    assert not (trio.work / "swarm").exists()
    assert not (trio.work / "complete").exists()
    assert trio.orders()[-1] == "core-01: docker config rm c1"
    assert "core-01: docker service rm s1 s2" in trio.orders()
    assert "the whole swarm is being removed" in succeeded(leave(trio, "core-02"))


def test_services_that_can_not_be_removed_do_not_stop_the_dissolution(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node ls -q", "id1\n"),
        SERVICES,
        Answer("core-01: docker service rm s1 s2", "no quorum\n", status=1),
    )
    output = "this machine: core-01 did not remove all services; they go with their nodes\n"
    assert succeeded(trio.delete("swarm/dissolve.sh")) == output
    assert not (trio.work / "swarm").exists()


# --- activate.sh ------------------------------------------------------------------------------------------------------

UPDATE = (
    "docker node update --availability active --label-add swarm-site.proxy=true --label-add swarm-site.drained= core-03"
)
NO_MANAGER = "This node is not a swarm manager."


def activate(world: World) -> Finished:
    return world.script("swarm/activate.sh", NODE="core-03", PROXY="true")


def test_a_manager_activates_itself(trio: World) -> None:
    trio.plan(Answer(f"core-03: {UPDATE}"))
    assert re.fullmatch(r"core-03: active after \d+ s\n", succeeded(activate(trio)))
    assert trio.orders() == [f"core-03: {UPDATE}"]


def test_a_worker_is_activated_by_the_first_manager_that_answers(trio: World) -> None:
    trio.kill("core-01")
    trio.plan(Answer(f"core-03: {UPDATE}", f"{NO_MANAGER}\n", status=1), Answer(f"core-02: {UPDATE}"))
    assert "active after" in succeeded(activate(trio))
    assert trio.orders() == [f"core-03: {UPDATE}", f"core-02: {UPDATE}"]


def test_an_activation_is_tried_again_while_the_swarm_itself_changes_the_entry(trio: World) -> None:
    conflict = "Error response from daemon: rpc error: code = Unknown desc = update out of sequence\n"
    trio.plan(Answer(f"core-03: {UPDATE}", conflict, status=1, once=True), Answer(f"core-03: {UPDATE}"))
    assert "active after" in succeeded(activate(trio))
    assert trio.orders() == [f"core-03: {UPDATE}"] * 2


def test_without_a_manager_no_node_is_activated_and_the_last_error_is_shown(trio: World) -> None:
    trio.plan(*(Answer(f"core-0{number}: {UPDATE}", f"{NO_MANAGER}\n", status=1) for number in (1, 2, 3)))
    assert refused(activate(trio)) == f"core-03: no manager could activate this node ({NO_MANAGER}); run: make status\n"


# --- wait_for_tasks.sh ------------------------------------------------------------------------------------------------

ASKED = "core-01: docker service inspect proxy -f *"
TASKS = "core-01: docker service ps proxy --filter desired-state=running *"
ERRORS = Answer("core-01: docker service ps proxy --no-trunc *", "core-03: Rejected 3 seconds ago No such image\n")
LISTED = Answer("core-01: docker node ls -q", "id1\nid2\nid3\n")
INSPECTED = 'core-01: docker node inspect -f *"swarm-site.proxy"*'
NODES = [
    LISTED,
    Answer(INSPECTED, "core-01 active ready false\ncore-02 active ready true\ncore-03 active ready true\n"),
]
BOTH = "core-02 Running 5 seconds ago\ncore-03 Running 5 seconds ago\n"


def wait_for_tasks(world: World) -> Finished:
    return world.script("swarm/wait_for_tasks.sh", NODE="", SERVICE="proxy", SECONDS_ALLOWED="120")


def test_a_service_that_is_being_updated_is_waited_for_although_old_tasks_run(trio: World) -> None:
    trio.plan(
        Answer(ASKED, "updating update in progress\n", once=True),
        Answer(ASKED, "completed update completed\n"),
        Answer(TASKS, BOTH),
        *NODES,
    )
    succeeded(wait_for_tasks(trio))
    assert sum("service inspect" in call for call in trio.calls()) == 2


def test_a_service_runs_once_every_labelled_node_runs_a_task(trio: World) -> None:
    trio.plan(
        Answer(ASKED, ""),
        Answer(TASKS, "core-02 Running 5 seconds ago\ncore-03 Starting 1 second ago\n", once=True),
        Answer(TASKS, BOTH),
        *NODES,
    )
    succeeded(wait_for_tasks(trio))
    assert sum("service inspect" in call for call in trio.calls()) == 2


@pytest.mark.parametrize("node", ["core-03 drain ready true", "core-03 active down true", "core-03 active ready false"])
def test_a_node_that_is_drained_dead_or_without_the_label_needs_no_task(trio: World, node: str) -> None:
    trio.plan(
        Answer(ASKED, ""),
        Answer(TASKS, "core-02 Running 5 seconds ago\n"),
        LISTED,
        Answer(INSPECTED, f"core-02 active ready true\n{node}\n"),
    )
    succeeded(wait_for_tasks(trio))


def test_a_service_that_stays_incomplete_fails_with_the_errors_of_its_tasks(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, "core-02 Running 5 seconds ago\n"), ERRORS, *NODES)
    done = wait_for_tasks(trio)
    assert refused(done) == (
        "this machine: proxy is incomplete after 120 s: core-03; run: make status\n"
        "core-03: Rejected 3 seconds ago No such image\n"
    )


def test_a_service_without_any_task_is_missing_on_every_labelled_node(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, ""), ERRORS, *NODES)
    assert "proxy is incomplete after 120 s: core-02, core-03; run: make status\n" in refused(wait_for_tasks(trio))


def test_a_question_without_an_answer_does_not_count_as_complete(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, ""), ERRORS, LISTED, Answer(INSPECTED, status=1))
    assert wait_for_tasks(trio).returncode == 1


@pytest.mark.parametrize("state", ["rollback_completed rollback completed", "paused update paused due to failure"])
def test_an_update_that_was_rolled_back_fails_at_once(trio: World, state: str) -> None:
    trio.plan(Answer(ASKED, f"{state}\n"), Answer(TASKS, BOTH), ERRORS, *NODES)
    done = wait_for_tasks(trio)
    assert refused(done) == (
        f"this machine: the update of proxy was rolled back: {state}; run: make status\n"
        "core-03: Rejected 3 seconds ago No such image\n"
    )
    assert "waiting" not in done.stdout


def test_without_a_manager_no_service_is_waited_for(trio: World) -> None:
    trio.plan(*(no_manager(f"core-0{number}") for number in (1, 2, 3)))
    assert refused(wait_for_tasks(trio)) == "this machine: no swarm manager answers; run: make status\n"
