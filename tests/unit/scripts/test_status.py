"""templates/status/: queries the tools send to nodes. Only the script's text is sent, so it works without the tree."""

import hashlib
import os
from pathlib import Path

import pytest

from components.contract import FOLDER_SITE
from tests.unit.shell import RECORDER, Answer, Finished, World, succeeded

NODE = [
    Answer("here: docker version -f {{.Server.Version}}", "20.10\n"),
    Answer("here: docker ps -aq --filter label=swarm-site.part --filter exited=137"),
    Answer("here: docker info -f {{.Swarm.LocalNodeState}} *", "active \n"),
    Answer("here: iptables -w 10 -C *"),
    Answer("here: docker image inspect site:1"),
    Answer("here: docker image inspect *", status=1),
]


def on_the_node(world: World, path: str, *arguments: str, site: Path | None = None) -> Finished:
    world.stub("here", "iptables", RECORDER)
    changes = {FOLDER_SITE: str(site)} if site else {}
    text = world.altered_text(path, changes)
    return world.without_tree(text, path, *arguments, WORK="")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A node folder with a release and a proxy configuration."""
    release = tmp_path / "srv/content/releases/0123"
    release.mkdir(parents=True)
    (release / "index.html").write_text("one")
    os.utime(release / "index.html", (1700000000, 1700000000))
    (tmp_path / "srv/content/manifests").mkdir()
    (tmp_path / "srv/content/manifests/0123").write_text("1700000000\nHASH 1700000000 3 ./index.html\n")
    (tmp_path / "srv/content/current").symlink_to("releases/0123")
    (tmp_path / "srv/proxy/current").mkdir(parents=True)
    (tmp_path / "srv/proxy/current/nginx.conf").write_text("http {}\n")
    return tmp_path / "srv"


def test_a_node_reports_docker_images_release_and_configuration(world: World, site: Path) -> None:
    world.plan(*NODE)
    assert succeeded(on_the_node(world, "status/node.sh", "site:1", "site:2", site=site)).splitlines() == [
        "docker 20.10",
        "swarm active",
        "firewall on",
        "image:site:1 present",
        "release 0123",
        "release_intact yes",
        f"proxy_hash {hashlib.sha256(b'http {}' + bytes([10])).hexdigest()}",
    ]


@pytest.mark.parametrize("path", ["content/current/index.html", "content/current/added", "content/manifests/0123"])
def test_a_release_that_was_changed_on_its_node_is_not_reported_as_intact(world: World, site: Path, path: str) -> None:
    world.plan(*NODE)
    (site / path).write_text("two")
    assert "release_intact" not in succeeded(on_the_node(world, "status/node.sh", site=site))


def test_a_node_reports_why_it_is_out_of_its_swarm_in_a_line(world: World, tmp_path: Path) -> None:
    answer = Answer("here: docker info -f {{.Swarm.LocalNodeState}} {{.Swarm.Error}}", "error x509: it\nhas expired\n")
    world.plan(*NODE[:2], answer, NODE[3])
    output = succeeded(on_the_node(world, "status/node.sh", site=tmp_path / "nothing"))
    assert output == "docker 20.10\nswarm error\nswarm_error x509: it has expired\nfirewall on\n"


def test_a_node_whose_docker_does_not_answer_reports_only_that(world: World, site: Path) -> None:
    error = "Cannot connect to the Docker daemon.\nIs the docker daemon running?\n"
    world.plan(Answer("here: docker version *", error, 1))
    output = succeeded(on_the_node(world, "status/node.sh", site=site))
    assert output == "docker_error Cannot connect to the Docker daemon. Is the docker daemon running?\n"


def test_a_node_reports_tasks_that_exceeded_their_memory_limit(world: World, tmp_path: Path) -> None:
    world.plan(
        NODE[0],
        Answer(NODE[1].pattern, "c1\nc2\n"),
        Answer("here: docker inspect -f *OOMKilled* c1 c2", "oom:t1 67108864\n\n"),
        *NODE[2:],
    )
    output = succeeded(on_the_node(world, "status/node.sh", site=tmp_path / "nothing"))
    assert output == "docker 20.10\nswarm active\nfirewall on\noom:t1 67108864\n"


def test_a_node_without_content_and_proxy_reports_neither(world: World, tmp_path: Path) -> None:
    world.plan(*NODE)
    output = succeeded(on_the_node(world, "status/node.sh", site=tmp_path / "nothing"))
    assert output == "docker 20.10\nswarm active\nfirewall on\n"


@pytest.mark.parametrize("gone", ["INPUT -j SWARM-SITE", "DOCKER-USER -j SWARM-SITE-FORWARD"])
def test_a_firewall_without_one_of_its_rules_is_not_reported_as_on(world: World, tmp_path: Path, gone: str) -> None:
    world.plan(Answer(f"here: iptables -w 10 -C {gone}", status=1), *NODE)
    assert "firewall" not in succeeded(on_the_node(world, "status/node.sh", site=tmp_path / "nothing"))


def test_a_manager_reports_nodes_reasons_services_tasks_and_faults(world: World) -> None:
    world.stub("here", "docker", RECORDER)
    labels = '{{index .Spec.Labels "swarm-site.proxy"}}?{{index .Spec.Labels "swarm-site.drained"}}'
    world.plan(
        Answer("here: docker node ls --format node*", "node\tcore-01\tReady\tDrain\tLeader\n"),
        Answer("here: docker node ls -q", "id1\n"),
        Answer(f"here: docker node inspect -f drained*{labels} id1", "drained\tcore-01\ttrue\tit is dead\n"),
        Answer("here: docker service ls --format service*", "service\tproxy\t1/2\n"),
        Answer("here: docker service ls -q", "s1\n"),
        Answer("here: docker service inspect -f *update* s1", "update\tproxy\trollback_completed\tall back\n\n"),
        Answer("here: docker service ps --filter desired-state=running *", "task\tproxy.1\tcore-01\tRunning\n"),
        Answer(
            "here: docker service ps --no-trunc --filter desired-state=shutdown *",
            "fault\tproxy.2\tcore-02\tNo such image\tt1\tRejected\n"
            "fault\tproxy.3\tcore-03\t\tt2\tComplete 1 second ago\n"
            "fault\tproxy.4\tcore-03\t\tt3\tShutdown 1 second ago\n"
            "fault\tproxy.5\tcore-03\tout of memory\tt4\tComplete 1 second ago\n",
        ),
    )
    assert succeeded(on_the_node(world, "status/manager.sh")).splitlines() == [
        "node\tcore-01\tReady\tDrain\tLeader",
        "drained\tcore-01\ttrue\tit is dead",
        "service\tproxy\t1/2",
        "update\tproxy\trollback_completed\tall back",
        "task\tproxy.1\tcore-01\tRunning",
        "fault\tproxy.2\tcore-02\tNo such image\tt1\tRejected",
        "fault\tproxy.3\tcore-03\tended: its health check failed, or it quit\tt2\tComplete 1 second ago",
        "fault\tproxy.5\tcore-03\tout of memory\tt4\tComplete 1 second ago",
    ]
