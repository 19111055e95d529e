"""The one place that builds a Command, on this machine or, through ssh, on a node."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_command as command

from components.rendering import render


def run(
    name: str,
    *,
    create: str,
    delete: str | None = None,
    values: Mapping[str, object] | None = None,
    environment: Mapping[str, pulumi.Input[str]],
    triggers: Sequence[pulumi.Input[str]] = (),
    minutes: int,
    node: str = "",
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """A Command whose scripts are files of `templates/`, run by bash on this machine.

    The texts travel in the environment, so that an error shows the script's name and its words, not the script. An
    `exec` keeps the shell's parent: `$PPID` is the plugin, the same for every Command of a run.

    Args:
        name: the resource's name.
        create: template of the script that makes it, and makes it again when any input changes.
        delete: template of the script that takes it away; without one, nothing is to be taken away.
        values: what the templates name, and what they include by it.
        environment: the scripts' inputs. A changed value runs `create` again.
        triggers: identities; a changed one takes the old thing away first, then makes the new one.
        minutes: how long each script may take.
        node: the node that the scripts work on, if it is one.
        opts: parent, dependencies.
    """
    scripts = {"CREATE_SCRIPT": create} | ({"DELETE_SCRIPT": delete} if delete else {})
    texts = {key: render(script, **(values or {})) for key, script in scripts.items()}
    return command.local.Command(
        name,
        create=f'exec bash -c "$CREATE_SCRIPT" {create}',
        delete=f'exec bash -c "$DELETE_SCRIPT" {delete}' if delete else None,
        environment={"NODE": node, **environment, **texts},
        triggers=list(triggers),
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                delete_before_replace=True,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{minutes}m", update=f"{minutes}m", delete=f"{minutes}m"),
            ),
        ),
    )
