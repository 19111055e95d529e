"""templates/service/: nginx tests a configuration on this machine, and starts in a container."""

import shutil

from components.contract import PROJECT
from tests.unit.shell import IMAGE, Finished, World, refused, succeeded

NGINX = r"""#!/usr/bin/env bash
echo "$*" >"$STUBS/asked"
cat >"$STUBS/configuration"
if grep -q bad "$STUBS/configuration"; then echo "[emerg] unknown directive" >&2 && exit 1; fi
"""


def check(world: World, text: str) -> Finished:
    world.stub("here", "docker", NGINX)
    given = {"NODE": "", "IMAGE": IMAGE, "TEMPLATE": "templates/proxy/nginx.conf", "CONFIGURATION": text}
    return world.script("service/test_configuration.sh", **given)


def test_nginx_of_the_image_tests_a_configuration(world: World) -> None:
    assert succeeded(check(world, "good {\n}\n")) == ""
    assert (world.stubs / "configuration").read_text() == "good {\n}\n"
    asked = (world.stubs / "asked").read_text()
    assert f" --network none --read-only --tmpfs /tmp --entrypoint sh {IMAGE} -c " in asked


def test_a_configuration_that_nginx_rejects_fails_with_its_error(world: World) -> None:
    assert refused(check(world, "bad")) == (
        "this machine: nginx rejects the configuration rendered from templates/proxy/nginx.conf; no node got it: "
        "[emerg] unknown directive\n"
    )


# --- start ------------------------------------------------------------------------------------------------------------


def started(world: World, setpriv: str) -> Finished:
    """Start nginx in a container whose `setpriv` is this script."""
    world.stub("here", "nginx", '#!/bin/sh\ngrep NoNewPrivs /proc/self/status\necho "$*"\n')
    world.stub("here", "setpriv", setpriv)
    (world.folder / "tmp").mkdir()
    text = (PROJECT / "templates/service/start").read_text().replace("/tmp/", f"{world.folder}/tmp/")
    text = text.replace("follow &", ":")  # it would keep the output open until somebody has noticed the end of nginx
    return world.run("sh", "-c", text, "start", "1", "80", "/etc/nginx.conf")


def test_nginx_can_not_gain_privileges_where_the_image_has_setpriv(world: World) -> None:
    real = shutil.which("setpriv")
    output = succeeded(started(world, f'#!/bin/sh\nexec {real} "$@"\n'))
    assert output == "NoNewPrivs:\t1\n-c /etc/nginx.conf -g daemon off; worker_processes 1;\n"


def test_nginx_starts_without_setpriv_too(world: World) -> None:
    output = succeeded(started(world, "#!/bin/sh\nexit 127\n"))
    assert output.endswith("\n-c /etc/nginx.conf -g daemon off; worker_processes 1;\n")
