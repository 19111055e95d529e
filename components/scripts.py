"""The only module that builds Commands: scripts of `templates/`, run by bash on this machine."""

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
"""Line with which a script sources another file of `templates/`."""
IDLE_LINE = re.compile(r"^[ \t]*(#.*)?\n", re.MULTILINE)
"""Line without a command. Tests prove that the shell reads every script the same without them."""

Environment = Mapping[str, pulumi.Input[str]]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with a running Docker. A resource that depends on `resource` starts once the machine is up."""

    node: Node
    resource: command.local.Command


def bundle(script: str, provider: str = "") -> str:
    """Return the self-contained text of a script; see `in_place`.

    Comments, empty lines and unused shared names are dropped: the state holds the text several times per node.

    Args:
        script: path relative to `templates/`.
        provider: value of `$PROVIDER` in the paths of sourced files.
    """
    text = IDLE_LINE.sub("", in_place(script, provider))
    unused = [name for name in shell_names() if len(re.findall(rf"\b{name}\b", text)) == 1]
    return re.sub(rf'^({"|".join(unused)})=".*"\n', "", text, flags=re.MULTILINE) if unused else text


def in_place(script: str, provider: str = "") -> str:
    """Return the text of a script with every sourced file inlined once.

    Raises:
        FileNotFoundError: the script or a file it sources does not exist.
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
    """Return a Command that runs scripts of `templates/`.

    The create runs from the tree; an input with the hash of its text and of the files it sends reruns it. The delete is
    stored as text: the tree may have another version by then. `exec` keeps the shell's parent: `$PPID` is the plugin,
    the same for every Command of a run.

    Args:
        name: resource name.
        step: purpose of the Command; tools select Commands by it.
        create: script that creates the resource, and reruns when any input changes.
        delete: script that removes the resource; None if there is nothing to remove.
        sent: other files below `templates/` that the create reads and sends to a node.
        environment: inputs of the scripts besides WORK, STEP and NODE. A changed value reruns `create`.
        triggers: identities; a change runs the delete, then the create.
        minutes: timeout per script, in minutes.
        node: node the scripts work on, if any.
        opts: parent and dependencies.
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
    """Return a Command that runs a Python tool of the project on this machine.

    Args:
        name: resource name.
        step: see `script`.
        module: module of the tool, such as `tools.images`.
        files: source files of the tool; a change reruns it.
        environment: inputs of the tool besides WORK, STEP and NODE.
        minutes: timeout, in minutes.
        opts: parent and dependencies.
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
    sent: Sequence[str] = (),
    environment: Environment | Callable[[Node], Environment],
    minutes: int,
    parent: pulumi.Resource,
    after: Callable[[Node], Sequence[pulumi.Resource]] | None = None,
) -> dict[str, command.local.Command]:
    """Return one Command per machine, by node name; each is replaced with its machine.

    Args:
        name: prefix of the resource names; the node name follows.
        machines: target machines.
        step: see `script`.
        create: see `script`.
        delete: see `script`.
        sent: see `script`.
        environment: inputs common to all nodes, or a function of the node.
        minutes: see `script`.
        parent: parent component.
        after: resources that must exist before a node's Command starts.
    """
    return {
        machine.node.name: script(
            f"{name}-{machine.node.name}",
            step=step,
            create=create,
            delete=delete,
            sent=sent,
            environment=environment(machine.node) if callable(environment) else environment,
            triggers=[machine.resource.id],
            minutes=minutes,
            node=machine.node.name,
            opts=pulumi.ResourceOptions(parent=parent, depends_on=after(machine.node) if after else None),
        )
        for machine in machines
    }


def bounded(minutes: int, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Return options with a timeout per script; a replacement runs the delete before the create."""
    limit = f"{minutes}m"
    own = pulumi.ResourceOptions(
        delete_before_replace=True,
        custom_timeouts=pulumi.CustomTimeouts(create=limit, update=limit, delete=limit),
    )
    return pulumi.ResourceOptions.merge(opts, own)
