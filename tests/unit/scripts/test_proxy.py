"""templates/proxy/: the bootstrap of a proxy node, and the switch to a new configuration."""

from pathlib import Path

from tests.unit.shell import Answer, Finished, Rooted, refused, succeeded

PLAIN = "http {\n  # plain 502\n}\n"


def bootstrap(rooted: Rooted) -> Finished:
    return rooted.script("proxy/bootstrap.sh", NODE="core-01", CONFIGURATION=PLAIN)


def live(rooted: Rooted, node: str = "core-01") -> Path:
    return rooted.root(node) / "proxy/current/nginx.conf"


def give_configuration(rooted: Rooted, node: str, text: str) -> None:
    path = live(rooted, node)
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_node_starts_with_a_plain_page_if_no_peer_has_a_configuration(rooted: Rooted) -> None:
    rooted.world.kill("core-02")
    (rooted.world.work / "complete").touch()
    assert succeeded(bootstrap(rooted)) == "core-01: starts with a plain 502 page\n"
    assert live(rooted).read_text().strip() == PLAIN.strip()
    assert str(live(rooted).parent.readlink()) == "releases/seed"
    rooted.assert_readable(rooted.root("core-01") / "proxy")


def test_a_node_starts_with_the_configuration_of_its_peers(rooted: Rooted) -> None:
    (rooted.world.work / "complete").touch()
    rooted.world.kill("core-02")
    give_configuration(rooted, "core-03", "http {\n  # of a peer\n}\n")
    assert succeeded(bootstrap(rooted)) == "core-01: starts with the proxy configuration of core-03\n"
    assert "of a peer" in live(rooted).read_text()


def test_no_peer_is_asked_before_the_cluster_is_complete(rooted: Rooted) -> None:
    give_configuration(rooted, "core-03", "http {\n  # of a peer\n}\n")
    assert succeeded(bootstrap(rooted)) == "core-01: starts with a plain 502 page\n"


def test_a_node_keeps_its_configuration(rooted: Rooted) -> None:
    give_configuration(rooted, "core-01", "http {\n  # its own\n}\n")
    give_configuration(rooted, "core-02", "http {\n  # of a peer\n}\n")
    (rooted.world.work / "complete").touch()
    assert succeeded(bootstrap(rooted)) == "core-01: keeps its proxy configuration\n"
    assert "its own" in live(rooted).read_text()


def test_a_node_keeps_its_configuration_before_the_cluster_is_complete(rooted: Rooted) -> None:
    give_configuration(rooted, "core-01", "http {\n  # its own\n}\n")
    assert succeeded(bootstrap(rooted)) == "core-01: keeps its proxy configuration\n"
    assert "its own" in live(rooted).read_text()


NO_PROXY = Answer("core-01: docker ps -q --filter label=swarm-site.part=proxy*")
PROXY_RUNS = [
    Answer("core-01: docker ps -q --filter label=swarm-site.part=proxy*", "c1\n"),
    Answer("core-01: docker kill -s HUP c1"),
    Answer("core-01: docker logs --since * c1", "nothing of interest\n[emerg] bind() failed\n"),
]


def configure(rooted: Rooted, state: str) -> Finished:
    return rooted.script(
        "proxy/configure.sh",
        NODE="core-01",
        STATE=state,
        STATE_URL="http://127.0.0.1/state",
        CONFIGURATION=f"http {{ # {state}\n}}\n",
    )


def serving(rooted: Rooted) -> str:
    return live(rooted).parent.readlink().name


def test_one_relative_link_makes_a_configuration_live(rooted: Rooted) -> None:
    rooted.world.plan(NO_PROXY)
    assert succeeded(configure(rooted, "one")) == ""
    assert live(rooted).read_text() == "http { # one\n}\n"
    assert str(live(rooted).parent.readlink()) == "releases/one"
    rooted.assert_readable(rooted.root("core-01") / "proxy")


def test_running_proxies_reload_and_are_asked_until_one_answers_with_the_new_state(rooted: Rooted) -> None:
    asked = "core-01: curl -s --noproxy * --max-time 1 http://127.0.0.1/state"
    rooted.world.plan(*PROXY_RUNS, Answer(asked, "zero\n", once=True), Answer(asked, "one\n"))
    succeeded(configure(rooted, "one"))
    assert serving(rooted) == "one"
    calls = rooted.world.calls()
    reloaded = calls.index("core-01: docker kill -s HUP c1")
    assert [index > reloaded for index, call in enumerate(calls) if call == asked] == [True, True]


def test_a_configuration_that_no_proxy_loads_is_rolled_back_with_the_error_of_nginx(rooted: Rooted) -> None:
    rooted.world.plan(*PROXY_RUNS, Answer("core-01: curl *", "one\n"))
    succeeded(configure(rooted, "one"))
    assert refused(configure(rooted, "two")) == (
        "core-01: the new proxy configuration did not become live, the previous one stays: "
        "[emerg] bind() failed\nnginx did not load it within 10 s; run again: make up\n"
    )
    assert serving(rooted) == "one"
    assert rooted.world.calls().count("core-01: docker kill -s HUP c1") == 3


def test_a_node_keeps_the_four_configurations_that_were_live_last(rooted: Rooted) -> None:
    rooted.world.plan(NO_PROXY)
    for state in ("one", "two", "three", "four", "one", "five"):
        succeeded(configure(rooted, state))
    left = {path.name for path in (rooted.root("core-01") / "proxy/releases").iterdir()}
    assert left == {"one", "three", "four", "five"}
