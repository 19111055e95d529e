"""The one place that builds a Command: a script of `templates/`, run by bash on this machine."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_command as command

from components.contract import Step, shell_names, stack_folder
from components.digest import text_hash
from components.rendering import TEMPLATES
from components.settings import Node

SOURCED = re.compile(r'^\. "?templates/([^"\n]+)"?$', re.MULTILINE)
"""A line by which a script sources another file of `templates/`."""
IDLE_LINE = re.compile(r"^[ \t]*(#.*)?\n", re.MULTILINE)
"""A line without a command. Tests prove of every script that the shell reads the same without them."""

Environment = Mapping[str, pulumi.Input[str]]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine that Docker answers on. A resource that depends on `resource` starts when it is up."""

    node: Node
    resource: command.local.Command


def bundle(script: str, provider: str = "") -> str:
    """The text of a script as it runs, alone: see `in_place`.

    It has no comments, no empty lines and no shared name that it does not use: the state holds it several times a node.

    Args:
        script: path below `templates/`.
        provider: what `$PROVIDER` stands for in the paths of sourced files.
    """
    text = IDLE_LINE.sub("", in_place(script, provider))
    unused = [name for name in shell_names() if len(re.findall(rf"\b{name}\b", text)) == 1]
    return re.sub(rf'^({"|".join(unused)})=".*"\n', "", text, flags=re.MULTILINE) if unused else text


def in_place(script: str, provider: str = "") -> str:
    """The text of a script with every file that it sources in its place, each once.

    Raises:
        FileNotFoundError: there is no such script, or it sources a file that does not exist.
    """
    seen: set[str] = set()

    def text(path: str) -> str:
        if path in seen:
            return ""
        seen.add(path)
        whole = (TEMPLATES / path).read_text()
        return SOURCED.sub(lambda found: text(found[1].replace("$PROVIDER", provider)).rstrip("\n"), whole)

    return text(script)


def script(
    name: str,
    *,
    step: Step,
    create: str,
    delete: str | None = None,
    sent: Sequence[str] = (),
    environment: Environment,
    triggers: Sequence[pulumi.Input[str]] = (),
    minutes: int,
    node: str = "",
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """A Command whose scripts are files of `templates/`.

    The create runs from the tree; the hash of its text, and of what it sends, is an input that runs it again. The
    delete travels as text: the tree may be of another version by then. `exec` keeps the shell's parent: `$PPID` is the
    plugin, the same for every Command of a run.

    Args:
        name: the resource's name.
        step: what it does; tools choose Commands by it.
        create: the script that creates it, and runs again when any input changes.
        delete: the script that removes it; without one, there is nothing to remove.
        sent: other files below `templates/` that the create reads and sends to a host.
        environment: the scripts' inputs beside WORK, STEP and NODE. A changed value runs `create` again.
        triggers: identities; when one changes, the delete runs first, then the create.
        minutes: how long each script may take.
        node: the node that the scripts work on, if any.
        opts: parent, dependencies.
    """
    provider = environment.get("PROVIDER", "")
    assert isinstance(provider, str), "PROVIDER decides which file a script sources"
    own = {"WORK": stack_folder(pulumi.get_stack()), "STEP": step.value, "NODE": node}
    texts = {"SCRIPT_HASH": text_hash("".join(bundle(path, provider) for path in (create, *sent)))[:12]}
    if delete:
        texts["DELETE_SCRIPT"] = bundle(delete, provider)
    return command.local.Command(
        name,
        create=f"exec bash templates/{create}",
        delete=f'exec bash -c "$DELETE_SCRIPT" templates/{delete}' if delete else None,
        environment={**own, **environment, **texts},
        triggers=list(triggers),
        opts=bounded(minutes, opts),
    )


def tool(
    name: str,
    *,
    step: Step,
    module: str,
    files: Sequence[Path],
    environment: Environment,
    minutes: int,
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """A Command that runs a Python tool of the project on this machine.

    Args:
        name: the resource's name.
        step: see `script`.
        module: the tool, such as `tools.images`.
        files: what it consists of: when one changes, it runs again.
        environment: its inputs beside WORK, STEP and NODE.
        minutes: how long it may take.
        opts: parent, dependencies.
    """
    own = {"WORK": stack_folder(pulumi.get_stack()), "STEP": step.value, "NODE": ""}
    text = "".join(file.read_text() for file in files)
    return command.local.Command(
        name,
        create=f"exec .venv/bin/python -m {module}",
        environment={**own, **environment, "SCRIPT_HASH": text_hash(text)[:12]},
        triggers=[],
        opts=bounded(minutes, opts),
    )


def on_each(
    name: str,
    machines: Sequence[Machine],
    *,
    step: Step,
    create: str,
    delete: str | None = None,
    environment: Environment | Callable[[Node], Environment],
    minutes: int,
    parent: pulumi.Resource,
    after: Callable[[Node], Sequence[pulumi.Resource]] | None = None,
) -> dict[str, command.local.Command]:
    """One Command a machine, by node name; each is replaced with its machine.

    Args:
        name: first part of the resources' names; the node's name follows.
        machines: those it runs on.
        step: see `script`.
        create: see `script`.
        delete: see `script`.
        environment: the same for all, or a node's own.
        minutes: see `script`.
        parent: the component.
        after: what must exist before the Command of a node starts.
    """
    return {
        machine.node.name: script(
            f"{name}-{machine.node.name}",
            step=step,
            create=create,
            delete=delete,
            environment=environment(machine.node) if callable(environment) else environment,
            triggers=[machine.resource.id],
            minutes=minutes,
            node=machine.node.name,
            opts=pulumi.ResourceOptions(parent=parent, depends_on=after(machine.node) if after else None),
        )
        for machine in machines
    }


def bounded(minutes: int, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Options with a time limit for each script; on a replacement the delete runs before the create."""
    limit = f"{minutes}m"
    own = pulumi.ResourceOptions(
        delete_before_replace=True,
        custom_timeouts=pulumi.CustomTimeouts(create=limit, update=limit, delete=limit),
    )
    return pulumi.ResourceOptions.merge(opts, own)
