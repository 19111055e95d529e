"""What the plain script of `make bench` takes from the product: images, Vagrantfiles and the backend's configuration.

usage: python -m tests.bench.inputs FOLDER   writes rendered files there, and prints the script's inputs for its shell
"""

import os
import shlex
import sys
from ipaddress import IPv4Network
from pathlib import Path

from components import application
from components.contract import FOLDER_CONTENT
from components.digest import folder_hash
from components.rendering import TEMPLATES, render
from components.service import capacity
from components.settings import ContentSettings, Node

STACK = "baseline"
NETWORK = IPv4Network("192.168.63.0/24")
NODES = [
    Node(name=f"bench-0{n}", address=str(NETWORK[10 + n]), role="manager", proxy=n > 1, memory=512, cpus=1)
    for n in (1, 2, 3)
]


def write(folder: Path) -> dict[str, str]:
    """Write the rendered files, and return the script's inputs as environment variables."""
    node, nginx = (folder_hash(TEMPLATES / "images" / name)[:12] for name in ("node", "nginx"))
    box = f"localhost/site/node:{node}"
    folder.mkdir(parents=True, exist_ok=True)
    for one in NODES:
        text = render("machines/Vagrantfile", provider="docker", stack=STACK, node=one, box=box, network=NETWORK)
        (folder / f"{one.name}.Vagrantfile").write_text(text)
    text = application.configuration(ContentSettings(), FOLDER_CONTENT, ["next"], capacity(memory=64, workers=1))
    (folder / "backend.nginx.conf").write_text(text)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        "RENDERED": str(folder),
        "NGINX_IMAGE": f"localhost:1/site-nginx:{nginx}",
        "NGINX_ARCHIVE": str(cache / "swarm-site" / "images" / f"site-nginx-{nginx}.tar"),
    }


if __name__ == "__main__":
    print("\n".join(f"{name}={shlex.quote(value)}" for name, value in write(Path(sys.argv[1])).items()))
