"""Names shared by components, templates and tools: steps, labels, node folders and files of the stack folder.

Jinja templates use it as `contract`, shell scripts as `templates/contract.sh`, which `make docs` generates from it.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

PACKAGE = "swarm-site"
"""The project: prefix of type tokens, settings, labels and everything a stack creates on this machine."""
PROJECT = Path(__file__).resolve().parent.parent
"""The project folder, the working directory of every Command."""

HEALTH_PATH = "/.swarm-site/health"
"""Path that every application answers with 200, whatever its content."""


class Step(StrEnum):
    """The purpose of a Command, in the order of the flow. Every Command carries its step as the variable STEP."""

    IDENTITY = "identity"
    STACK_FOLDER = "stack-folder"
    BOX = "box"
    MACHINE = "machine"
    FIREWALL = "firewall"
    MEMBERSHIP = "membership"
    CLUSTER = "cluster"
    IMAGE = "image"
    IMAGE_DELIVERY = "image-delivery"
    CONTENT_DELIVERY = "content-delivery"
    CONTENT_SWITCH = "content-switch"
    PROXY_BOOTSTRAP = "proxy-bootstrap"
    ACTIVATION = "activation"
    CONFIGURATION_TEST = "configuration-test"
    PROXY_CONFIGURATION = "proxy-configuration"
    SERVICE_TASKS = "service-tasks"


# --- labels -----------------------------------------------------------------------------------------------------------

LABEL_STACK = "swarm-site.stack"
"""On containers and networks of this machine: the stack that created them."""
LABEL_NODE = "swarm-site.node"
"""On a container that acts as a machine: the node name."""
LABEL_SERVICE = "swarm-site"
"""On swarm services and configs: the service name."""
LABEL_PART = "swarm-site.part"
"""On a task's container: the service name."""
LABEL_PROXY = "swarm-site.proxy"
"""On a swarm node, set by its activation: `true` requests a proxy."""
LABEL_DRAINED = "swarm-site.drained"
"""On a swarm node: the reason for the drain; empty once the node is active again."""

# --- node folders -----------------------------------------------------------------------------------------------------

FOLDER_SITE = "/srv/swarm-site"
FOLDER_CONTENT = f"{FOLDER_SITE}/content"
"""Holds `releases/`, their `manifests/`, and the links `current`, `next`, `previous/1` …; mounted whole: containers
follow the links."""
FOLDER_PROXY = f"{FOLDER_SITE}/proxy"
"""The same for the proxy configuration."""
FOLDER_HOST = f"{FOLDER_SITE}/host"
"""On an adopted host: the record of its adoption, present from before the first change until after the last.

It holds `owner`, `whose` (the owner, human-readable), `changes` (lines of KIND NAME) and `release`, which undoes them.
"""
FOLDER_FIREWALL = f"{FOLDER_SITE}/firewall"
"""Holds what `apply`, which `UNIT_FIREWALL` runs at boot, makes rules of: `nodes`, `ports` and `trusted`."""
UNIT_FIREWALL = "swarm-site-firewall.service"
"""The systemd unit of a node's firewall."""
FOLDER_DRAFT = f"{FOLDER_SITE}/draft"
"""On a host: a record being written or removed. Nothing on the host depends on it."""

# --- stack folder on this machine -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StackFile:
    """A file or folder of the stack folder.

    Attributes:
        path: path relative to the stack folder.
        kind: `derived` from the settings, `local` to this machine, or a `mark` whose presence is the message.
        meaning: text for the table in docs/stack-folder.md.
    """

    path: str
    kind: Literal["derived", "local", "mark"]
    meaning: str


@dataclass(frozen=True)
class MachineFile(StackFile):
    """A file of a machine's folder, `machines/NAME/` in the stack folder; `path` is relative to it."""


IDENTITY_FILE = StackFile(
    "identity", "derived", "the stack's identity, which hosts are told, and the user and machine that created the stack"
)
PROVIDER_FILE = StackFile("provider", "derived", "provider of the stack's machines")
NODES_FILE = StackFile("nodes", "derived", "today's nodes, a line each: name, address, role")
SSH_CONFIG_FILE = StackFile("ssh_config", "derived", "ssh entry of the alias `swarm-manager`")
CONTEXT_FILE = StackFile("context_ssh_config", "local", "ssh entry of the Docker context, after `make context`")
KEY_FILE = StackFile("key", "local", "private key that opens machines created here; `key.pub` beside it")
AUTHORIZED_KEYS = StackFile("authorized_keys", "local", "the public key as nodes that are containers mount it")
MACHINES = StackFile("machines", "local", "one folder a machine")
LOCKS = StackFile("locks", "local", "kernel locks, one a machine and a few for the stack")
EMULATED = StackFile(
    "emulated", "mark", "virtual machines run without hardware virtualization: timeouts are 5 times as long"
)
KERNEL_FILE = StackFile("kernel", "local", "where libvirt's pool holds the kernel that the box's machines boot with")
HOSTONLY_FILE = StackFile("hostonly", "local", "name of VirtualBox's host-only interface of the stack")
RECIPE_FOLDER = StackFile("recipe", "local", "what a public box is provisioned with")
RELEASE_FILE = StackFile(
    "release",
    "derived",
    "the run that last delivered content, and the release's manifest: a date, hash and size a file",
)
SWARM_STARTED = StackFile("swarm", "mark", "a swarm was started: nobody starts a second one")
CLUSTER_COMPLETE = StackFile(
    "complete", "mark", "every member has joined: from now on a node hands over before it leaves"
)
DISSOLVING = StackFile(
    "leaving", "mark", "process id of the run that destroys the whole cluster: its leaves hand nothing over"
)

MACHINE_SSH_CONFIG = MachineFile("ssh_config", "derived", "ssh entry of the node")
MACHINE_COMPLETE = MachineFile("complete", "mark", "the machine was created to the end")
MACHINE_ADOPTED = MachineFile("adopted", "mark", "the host may hold something of the stack, to be given back")
MACHINE_FIREWALL = MachineFile("firewall", "derived", "the addresses that the node's firewall lets in")
MACHINE_LOG = MachineFile("log", "local", "what Vagrant, or the adoption, printed")


def stack_folder(stack: str) -> str:
    """Return the folder of a stack, relative to the project: `.work` is a link that set-up creates."""
    return f".work/{stack}"


def stack_files() -> dict[str, StackFile]:
    """Return every file of the stack folder by its name in this module, in definition order."""
    return {name: value for name, value in globals().items() if isinstance(value, StackFile)}


def shell_names() -> dict[str, str]:
    """Return every shared name for the shell: labels, node folders and units unchanged, stack files below `$WORK`."""
    names = {name: value for name, value in globals().items() if name.startswith(("LABEL_", "FOLDER_", "UNIT_"))}
    names = {name: value for name, value in names.items() if isinstance(value, str)}
    for name, file in stack_files().items():
        names[name] = file.path if isinstance(file, MachineFile) else f"${{WORK-}}/{file.path}"
    return names


def shell_text() -> str:
    """Return the text of `templates/contract.sh`."""
    lines = ["# shellcheck shell=bash disable=SC2034", "# Written by `make docs` from components/contract.py.", ""]
    lines += [f'{name}="{value}"' for name, value in sorted(shell_names().items())]
    return "\n".join(lines) + "\n"
