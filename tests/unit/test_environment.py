"""The Python half of set-up, with its own clone, home and PATH: links, `.env`, the engine, the stack."""

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.unit.sandbox import Sandbox, is_running, refusal, succeeded, until

PREAMBLE = (
    "from pathlib import Path; from tools import engines, environment, golang; from tools.engines import Engine; "
)


def environment(sandbox: Sandbox, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with access to the modules of set-up."""
    return sandbox.python(PREAMBLE + code, **env)


# --- .env ---

BUNDLED = """Engine("bundled", "3.256.0", Path("/the engine/bin"), Path("/the engine/h'ome"))"""
OFFICIAL = """Engine("official", "3.272.0", Path("/the engine/bin"))"""


def write_env_file(sandbox: Sandbox, engine: str, **env: str) -> None:
    succeeded(environment(sandbox, f"environment.write_env_file({engine})", **env))


def sourced(sandbox: Sandbox, shell: str, text: str = ". ./.env", **env: str) -> dict[str, str]:
    """Return the environment after `. ./.env` in the selected shell."""
    output = subprocess.run(
        [str(sandbox.programs / shell), "-euc", f"{text}; env -0"],
        cwd=sandbox.clone,
        env=sandbox.env | env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_env_file_survives_spaces_and_quotes_in_every_path(sandbox: Sandbox, shell: str) -> None:
    write_env_file(sandbox, BUNDLED)
    env = sourced(sandbox, shell)
    assert env["PATH"] == f"/the engine/bin:{sandbox.clone}/.venv/bin:{sandbox.programs}"
    assert env["PULUMI_HOME"] == "/the engine/h'ome"
    assert env["PULUMI_BACKEND_URL"] == f"file://{quote(str(sandbox.state), safe='/~')}/pulumi?metadata=skip"
    assert env["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert env["PULUMI_SKIP_UPDATE_CHECK"] == "true"
    assert env["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert env["PULUMI_PARALLEL"] == "64"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_sourcing_the_env_file_again_changes_nothing(sandbox: Sandbox, shell: str) -> None:
    write_env_file(sandbox, BUNDLED)
    assert sourced(sandbox, shell, ". ./.env; . ./.env; . ./.env") == sourced(sandbox, shell)


def test_the_users_own_values_win_and_are_not_written_down(sandbox: Sandbox) -> None:
    own = {
        "PULUMI_BACKEND_URL": "s3://bucket-of-theirs",
        "PULUMI_CONFIG_PASSPHRASE": "secret of theirs",
        "PULUMI_PARALLEL": "8",
    }
    write_env_file(sandbox, BUNDLED, **own)
    text = (sandbox.clone / ".env").read_text()
    assert not [value for value in ("bucket-of-theirs", "secret of theirs") if value in text]
    env = sourced(sandbox, "sh", **own)
    assert {name: env[name] for name in own} == own


def test_a_passphrase_file_is_not_overruled_by_an_empty_passphrase(sandbox: Sandbox) -> None:
    write_env_file(sandbox, BUNDLED)
    assert sourced(sandbox, "sh")["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert "PULUMI_CONFIG_PASSPHRASE" not in sourced(sandbox, "sh", PULUMI_CONFIG_PASSPHRASE_FILE="/a/file")


def test_with_the_official_engine_only_our_own_home_is_taken_back(sandbox: Sandbox) -> None:
    write_env_file(sandbox, OFFICIAL)
    bundled = {"PULUMI_HOME": f"{sandbox.cache}/engine/home", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}
    assert not bundled.keys() & sourced(sandbox, "sh", **bundled).keys()
    assert sourced(sandbox, "sh", PULUMI_HOME="/their/home")["PULUMI_HOME"] == "/their/home"


def test_every_odd_character_of_a_path_is_encoded_in_the_backend_url(sandbox: Sandbox) -> None:
    path = "/a" + "".join(map(chr, range(32, 127))) + "é€"
    url = succeeded(environment(sandbox, f"print(environment.file_url(Path({path!r})))"))
    assert url == f"file://{quote(path, safe='/~')}\n"


LOOPBACK = "127.0.0.1,localhost,::1"


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (LOOPBACK, LOOPBACK, LOOPBACK)),
        ({"no_proxy": ".lan"}, (f".lan,{LOOPBACK}", f".lan,{LOOPBACK}", LOOPBACK)),
        ({"NO_PROXY": ".lan"}, (f".lan,{LOOPBACK}", f".lan,{LOOPBACK}", LOOPBACK)),
        ({"no_proxy": "a", "NO_PROXY": "b c"}, (f"a,{LOOPBACK}", f"b c,{LOOPBACK}", LOOPBACK)),
        ({"no_proxy": "*", "no_grpc_proxy": "a"}, ("*", "*", f"a,{LOOPBACK}")),
    ],
)
def test_loopback_is_an_exception_to_every_proxy_beside_the_users_own(
    sandbox: Sandbox, shell: str, own: dict[str, str], expected: tuple[str, ...]
) -> None:
    write_env_file(sandbox, BUNDLED)
    env = sourced(sandbox, shell, ". ./.env; . ./.env", **own)
    assert tuple(env[name] for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")) == expected
    assert not [name for name in env if name.startswith("swarm_site")]


def test_variables_that_name_this_machines_docker_are_unset_and_no_others(sandbox: Sandbox) -> None:
    write_env_file(sandbox, BUNDLED)
    for host in ("unix:///var/run/docker.sock", "unix:///run/docker.sock"):
        env = sourced(sandbox, "sh", DOCKER_HOST=host, DOCKER_CONTEXT="default")
        assert not env.keys() & {"DOCKER_HOST", "DOCKER_CONTEXT"}
    theirs = {"DOCKER_HOST": "tcp://192.0.2.1:2375", "DOCKER_CONTEXT": "elsewhere"}
    env = sourced(sandbox, "sh", **theirs)
    assert {name: env[name] for name in theirs} == theirs, "the program refuses them, by name"


def test_modules_of_another_python_are_kept_out(sandbox: Sandbox) -> None:
    write_env_file(sandbox, BUNDLED)
    env = sourced(sandbox, "sh", PYTHONHOME="/elsewhere", PYTHONPATH="/elsewhere")
    assert not env.keys() & {"PYTHONHOME", "PYTHONPATH"}


def test_an_unchanged_env_file_is_not_written_again(sandbox: Sandbox) -> None:
    write_env_file(sandbox, BUNDLED)
    before = (sandbox.clone / ".env").stat()
    write_env_file(sandbox, BUNDLED)
    after = (sandbox.clone / ".env").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# --- the engine ---

ENGINE_THAT_FETCHES = 'case $1 in version) echo v3.260.1 ;; plugin) mkdir -p "$HOME/.pulumi/plugins/$3-$4-v$5" ;; esac'
GO = """
  if [[ $1 == env ]]; then echo go1.99.0; exit; fi
  echo build >>"$HOME/builds"
  while [[ $1 != -o ]]; do shift; done
  eval "$GO_STEP"
  printf '#!/bin/sh\\necho v3.256.0\\n' >"$2"
  chmod 755 "$2\""""


@pytest.fixture
def engines(sandbox: Sandbox) -> Sandbox:
    """A sandbox that can build the bundled engine but cannot reach the official installer."""
    sandbox.stub("go", GO)
    sandbox.write(
        "tools/official_engine.py", f"open({str(sandbox.folder / 'asked')!r}, 'a').write('asked\\n'); exit(1)\n"
    )
    return sandbox


def chosen(sandbox: Sandbox, **env: str) -> str:
    code = 'e = engines.choose([]); print(e.kind, e.version, e.folder, e.home or "", sep="|", end="")'
    return succeeded(environment(sandbox, code, **env))


def binary(sandbox: Sandbox) -> Path:
    return Path(succeeded(environment(sandbox, 'print(golang.engine().binary, end="")')))


def bundled(sandbox: Sandbox) -> str:
    return f"bundled|3.256.0|{binary(sandbox).parent}|{sandbox.cache}/engine/home"


def add_plugins(home: Path) -> None:
    for name in ("command-v1.2.1", "docker-v5.2.0"):
        (home / "plugins" / f"resource-{name}").mkdir(parents=True)


def test_an_engine_on_path_with_its_plugins_is_taken_first(engines: Sandbox) -> None:
    engines.stub("pulumi", "echo v3.260.1")
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines) == f"path|3.260.1|{engines.programs}|"
    assert engines.calls("asked") == []


def test_an_engine_on_path_that_is_too_old_is_passed_over(engines: Sandbox) -> None:
    engines.stub("pulumi", "echo v3.99.0")
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines) == bundled(engines)


def test_an_engine_on_path_whose_plugins_can_not_be_had_is_passed_over(engines: Sandbox) -> None:
    engines.stub("pulumi", "[[ $1 == version ]] && echo v3.260.1")
    assert chosen(engines) == bundled(engines)


def test_an_engine_on_path_fetches_the_pinned_plugins(engines: Sandbox) -> None:
    engines.stub("pulumi", 'case $1 in version) echo v3.260.1 ;; *) mkdir -p "$HOME/.pulumi/plugins/$3-$4-v$5" ;; esac')
    assert chosen(engines) == f"path|3.260.1|{engines.programs}|"


def test_our_own_engine_on_path_is_not_taken_for_the_users(engines: Sandbox) -> None:
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines, PATH=f"{engines.cache}/engine/bin:{engines.programs}") == bundled(engines)


def test_plugins_of_our_own_home_are_not_taken_for_the_users(engines: Sandbox) -> None:
    engines.stub("pulumi", "[[ $1 == version ]] && echo v3.260.1")
    add_plugins(engines.cache / "engine" / "home")
    assert chosen(engines, PULUMI_HOME=f"{engines.cache}/engine/home") == bundled(engines)


def test_a_closed_network_is_asked_once_a_day(engines: Sandbox) -> None:
    assert [chosen(engines) for _ in range(3)] == [bundled(engines)] * 3
    assert engines.calls("asked") == ["asked"]
    almost = time.time() - 23 * 3600
    os.utime(engines.cache / "downloads-blocked", (almost, almost))
    chosen(engines)
    # A blocked request is not a new answer.
    assert (engines.cache / "downloads-blocked").stat().st_mtime == pytest.approx(almost)
    yesterday = time.time() - 25 * 3600
    os.utime(engines.cache / "downloads-blocked", (yesterday, yesterday))
    chosen(engines)
    assert engines.calls("asked") == ["asked"] * 2


def test_the_official_engine_is_installed_once_with_its_plugins(engines: Sandbox) -> None:
    engines.write(
        "tools/official_engine.py",
        f"""
import sys, shutil
from pathlib import Path
folder = Path(sys.argv[1], "bin")
folder.mkdir(parents=True)
shutil.copy({str(engines.stub("official", ENGINE_THAT_FETCHES))!r}, folder / "pulumi")
open({str(engines.folder / "asked")!r}, "a").write("asked\\n")
""",
    )
    for _ in range(2):
        assert chosen(engines) == f"official|3.260.1|{engines.cache}/pulumi-3.272.0/bin|"
    assert engines.calls("asked") == ["asked"]


def test_the_bundled_engine_and_its_plugins_are_installed_again_only_when_they_or_their_environment_changed(
    engines: Sandbox,
) -> None:
    home = engines.cache / "engine" / "home"
    launcher = home / "plugins" / "resource-command-v1.2.1" / "pulumi-resource-command"
    other = engines.folder / "another environment"
    other.symlink_to(sys.prefix)

    def install(python: str = sys.executable) -> int:
        succeeded(engines.run([python, "-c", f"{PREAMBLE} engines.choose([])"]))
        return launcher.stat().st_mtime_ns

    first = install()
    assert install() == first
    engines.write("tools/engine/plugins/command.py", "# another plugin\n")
    second = install()
    assert second > first
    third = install(f"{other}/bin/python")
    assert third > second
    assert f"exec '{other}/bin/python' -E -s " in launcher.read_text()
    shutil.rmtree(home)
    assert install(f"{other}/bin/python") > third
    assert engines.calls("builds") == ["build"]
    engines.write("tools/engine/go.sum", "other modules\n")
    assert chosen(engines) == bundled(engines)
    assert engines.calls("builds") == ["build"] * 2


def test_plugins_that_no_set_up_has_used_for_a_week_are_removed(engines: Sandbox) -> None:
    chosen(engines)
    [first] = engines.cache.glob("engine/plugins-*")
    engines.write("tools/engine/plugins/command.py", "# another plugin\n")
    chosen(engines)
    assert first.exists()
    long_ago = time.time() - 8 * 86400
    for folder in engines.cache.glob("engine/plugins-*"):
        os.utime(folder, (long_ago, long_ago))
    chosen(engines)
    assert not first.exists()
    assert len(list(engines.cache.glob("engine/plugins-*"))) == 1


def test_an_engine_that_is_asked_for_by_name_has_no_stand_in(engines: Sandbox) -> None:
    result = main(engines, "engine", SWARM_SITE_ENGINE="path")
    assert refusal(result) == (
        "setup: SWARM_SITE_ENGINE is 'path', and that engine is not available. It may be path, official or bundled.\n"
    )
    assert chosen(engines, SWARM_SITE_ENGINE="bundled") == bundled(engines)


def test_an_engine_that_can_not_be_built_ends_set_up_with_what_to_do(engines: Sandbox) -> None:
    message = refusal(main(engines, "engine", GO_STEP="echo no such module; exit 1"))
    assert "    no such module\n" in message
    assert message.endswith(
        "The engine is built from its Go modules: check the log and GOPROXY, then run the same command again.\n"
    )
    assert not (engines.cache / "built").exists()


def test_a_download_site_that_never_answers_is_given_up_within_seconds(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        text = "import official_engine as o; o.REACH_SECONDS = 1; o.main()"
        result = subprocess.run(
            [sys.executable, "-c", text, str(sandbox.folder / "engine")],
            cwd=sandbox.clone / "tools",
            env=sandbox.env | {"https_proxy": proxy, "http_proxy": proxy, "no_proxy": ""},
            timeout=20,
            check=False,
        )
    assert result.returncode == -signal.SIGALRM


# --- building the engine early ---


def build_ahead(sandbox: Sandbox, site: str = "http://127.0.0.1:9/", **env: str) -> list[str]:
    """Run the first part of set-up; return the builds so far."""
    code = f"engines.REACH_SECONDS = 1; engines.DOWNLOAD_SITE = {site!r}; engines.main()"
    succeeded(environment(sandbox, code, no_proxy="*", **env))
    return sandbox.calls("builds")


def test_on_a_closed_network_the_engine_is_built_ahead(engines: Sandbox) -> None:
    assert build_ahead(engines) == ["build"]
    assert binary(engines).exists()
    assert build_ahead(engines) == ["build"]
    assert chosen(engines) == bundled(engines)
    assert engines.calls("asked") == []
    assert engines.calls("builds") == ["build"]


def test_a_site_that_never_answers_makes_the_network_a_closed_one_for_a_day(engines: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        assert build_ahead(engines, site) == ["build"]
        assert 1 < time.monotonic() - began < 15
        silent.setblocking(False)
        silent.accept()[0].close()
        build_ahead(engines, site)
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.parametrize(
    ("wanted", "builds"), [("bundled", ["build"]), ("path", []), ("official", []), ("another", [])]
)
def test_a_wish_for_an_engine_decides_without_a_question(engines: Sandbox, wanted: str, builds: list[str]) -> None:
    assert build_ahead(engines, SWARM_SITE_ENGINE=wanted) == builds
    assert not (engines.cache / "downloads-blocked").exists()


def test_where_another_engine_may_be_available_none_is_built_ahead(engines: Sandbox) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        assert build_ahead(engines, f"http://127.0.0.1:{site.server_port}/") == []
        site.shutdown()
    assert not (engines.cache / "downloads-blocked").exists()
    pulumi = engines.stub("pulumi", "")
    assert build_ahead(engines) == []
    pulumi.unlink()
    (engines.cache / "pulumi-3.272.0").mkdir()
    assert build_ahead(engines) == []


# --- the workflow linter ---


def test_actionlint_is_built_once_and_again_when_its_modules_change(engines: Sandbox) -> None:
    for _ in range(2):
        notes = succeeded(environment(engines, "notes = []; environment.build_actionlint(notes); print(notes)"))
        write_env_file(engines, BUNDLED)
    assert notes == "[]\n"
    assert engines.calls("builds") == ["build"]
    [linter] = engines.cache.glob("actionlint/*/actionlint")
    assert str(linter.parent) in sourced(engines, "sh")["PATH"].split(":")
    engines.write("tools/actionlint/go.sum", "other modules\n")
    notes = succeeded(environment(engines, "notes = []; environment.build_actionlint(notes); print(notes)"))
    assert notes == "['built actionlint']\n"
    assert engines.calls("builds") == ["build"] * 2


# --- the stack file ---

SALT = "encryptionsalt: v1:the-salt-of-the-empty-passphrase\n"


def write_stack_file(sandbox: Sandbox, **env: str) -> subprocess.CompletedProcess[str]:
    return environment(sandbox, "environment.write_stack_file()", STACK="blue", **env)


def test_a_new_stacks_file_gets_the_salt_of_the_empty_passphrase(sandbox: Sandbox) -> None:
    sandbox.write("Pulumi.dev.yaml", f"{SALT}config: {{}}\n")
    blue = sandbox.clone / "Pulumi.blue.yaml"
    succeeded(write_stack_file(sandbox))
    assert blue.read_text() == SALT
    blue.write_text("config:\n  swarm-site:network: 192.168.57.0/24\n")
    for _ in range(2):
        succeeded(write_stack_file(sandbox))
    assert blue.read_text() == SALT + "config:\n  swarm-site:network: 192.168.57.0/24\n"


def test_a_passphrase_of_the_users_own_gets_a_salt_of_its_own(sandbox: Sandbox) -> None:
    sandbox.write("Pulumi.dev.yaml", SALT)
    succeeded(write_stack_file(sandbox, PULUMI_CONFIG_PASSPHRASE="theirs"))
    succeeded(write_stack_file(sandbox, PULUMI_CONFIG_PASSPHRASE_FILE="/theirs"))
    assert not (sandbox.clone / "Pulumi.blue.yaml").exists()


def test_a_missing_salt_is_refused(sandbox: Sandbox) -> None:
    assert (
        "Pulumi.dev.yaml has no encryptionsalt; run: git checkout Pulumi.dev.yaml" in write_stack_file(sandbox).stderr
    )


# --- the whole set-up ---


def main(sandbox: Sandbox, goal: str, *notes: str, **env: str) -> subprocess.CompletedProcess[str]:
    return sandbox.run([sys.executable, "-m", "tools.environment", goal, *notes], **env)


@pytest.fixture
def clone(engines: Sandbox) -> Sandbox:
    """A sandbox in which set-up has reached Python, with the user's own engine selected."""
    engines.stub("pulumi", f'echo "$PULUMI_BACKEND_URL $*" >>"$HOME/pulumi"; {ENGINE_THAT_FETCHES}')
    add_plugins(engines.folder / ".pulumi")
    engines.write("Pulumi.dev.yaml", SALT)
    return engines


@pytest.mark.parametrize(("goal", "made"), [("engine", []), ("preview", ["dev"]), ("up", ["dev"])])
def test_a_preview_of_stacks_of_its_own_needs_no_stack_of_the_users(clone: Sandbox, goal: str, made: list[str]) -> None:
    succeeded(main(clone, goal))
    selected = [line.split()[-1] for line in clone.calls("pulumi") if "stack select --create" in line]
    assert selected == made


def test_set_up_links_the_clone_and_says_what_it_did(clone: Sandbox) -> None:
    result = main(clone, "preview", "installed curl", "built the Python environment", SWARM_SITE_SECONDS="41")
    assert succeeded(result) == ""
    summary = "ok: installed curl, built the Python environment (engine: pulumi 3.260.1, path; 4"
    assert result.stderr.startswith(summary)
    assert (clone.clone / ".venv").readlink() == Path(sys.prefix)
    assert (clone.clone / ".work").readlink() == clone.state / "work"
    assert (clone.cache / "built").exists()
    assert main(clone, "preview").stderr.startswith("ok: set-up is complete, nothing to do (engine: ")
    assert any(line.startswith("file:///") for line in clone.calls("pulumi")), "the stack is not selected with .env"


def test_the_environment_is_printed_for_eval(clone: Sandbox) -> None:
    result = main(clone, "env")
    assert succeeded(result) == (clone.clone / ".env").read_text()
    assert result.stderr == ""


def test_a_stack_that_can_not_be_selected_is_a_failure(clone: Sandbox) -> None:
    clone.stub("pulumi", f"[[ $* != *select* ]] || {{ echo no such bucket; exit 255; }}; {ENGINE_THAT_FETCHES}")
    message = refusal(main(clone, "preview"))
    assert "stack failed (exit status 255)" in message
    assert message.endswith(
        "    no such bucket\n"
        "Can't create or select the stack 'dev': fix what pulumi names above, then run the same command again.\n"
    )


@pytest.mark.parametrize("own", [False, True], ids=["the own folder", "a folder of the user's"])
def test_a_damaged_state_is_restored_before_pulumi_selects_the_stack(clone: Sandbox, own: bool) -> None:
    states = (clone.folder / "states" if own else clone.state / "pulumi") / ".pulumi/stacks/swarm-site"
    states.mkdir(parents=True)
    (states / "dev.json").touch()
    (states / "dev.json.bak").write_text('{"checkpoint": {}}')
    clone.stub("pulumi", f'[[ $* != *select* ]] || cat "{states}/dev.json" >"$HOME/selected"; {ENGINE_THAT_FETCHES}')
    environment = {"PULUMI_BACKEND_URL": f"file://{quote(str(clone.folder))}/states"} if own else {}
    result = main(clone, "preview", **environment)
    succeeded(result)
    assert "the state of stack dev is damaged; restored its checkpoint of " in result.stderr
    assert clone.calls("selected") == ['{"checkpoint": {}}']


def test_something_of_the_users_own_is_never_replaced_by_a_link(clone: Sandbox) -> None:
    own = clone.clone / ".venv"
    own.mkdir()
    assert "is in the way" in refusal(main(clone, "engine"))
    assert own.is_dir()


@pytest.mark.parametrize("everybody", [True, False], ids=["Ctrl-C", "a signal to set-up alone"])
def test_an_interrupt_ends_the_step_that_runs(engines: Sandbox, everybody: bool) -> None:
    engines.env["GO_STEP"] = 'echo $$ >"$HOME/pid"; sleep 98765'
    process = engines.start([sys.executable, "-m", "tools.environment", "engine"])
    pid = int(until(lambda: "".join(engines.calls("pid"))))
    if everybody:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130, message
    assert message.count("Interrupted. Run the same command again: it goes on from here.") == 1
    until(lambda: not is_running(pid))
    assert chosen(engines, GO_STEP="") == bundled(engines)
