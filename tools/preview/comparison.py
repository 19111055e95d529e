"""Two previews of new stacks, compared: what the engine would do to a stack like the first one.

Pure. What replaces a resource is derived as the engine and the providers do it: an input that the resource or its
provider names as replace-only, or an output of something that is replaced itself.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
SERVICE_CONFIG = "docker:index/serviceConfig:ServiceConfig"

REPLACE_ONLY: Mapping[str, Sequence[str]] = {
    SERVICE: (
        "name",
        "taskSpec.containerSpec.labels",
        "taskSpec.containerSpec.hosts",
        "taskSpec.networksAdvanceds",
    ),
    SERVICE_CONFIG: ("name", "data", "dataRaw", "labels"),
}
"""Inputs that the docker provider can't change in place. A Command says itself that its triggers are such."""

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How a preview writes a value that is known only once its resource exists."""

Kind = Literal["added", "replaced", "updated", "removed"]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource as a preview plans it.

    Attributes:
        urn: its identity in the stack.
        inputs: its inputs as text, by path; a value that another resource generates is described.
        awaits: the resources that such an input comes from, by path.
        replacers: paths whose change replaces the resource.
        ignored: paths whose change means nothing.
    """

    urn: str
    inputs: Mapping[str, str]
    awaits: Mapping[str, Collection[str]]
    replacers: Collection[str]
    ignored: Collection[str]

    @property
    def name(self) -> str:
        """Its name, the end of its URN."""
        return name_of(self.urn)

    @property
    def type(self) -> str:
        """Its type without those of the components around it."""
        return type_of(self.urn)

    @property
    def node(self) -> str:
        """The node that a Command works on; empty if it works on none."""
        return self.inputs.get("environment.NODE", "")

    @property
    def step(self) -> str:
        """What a Command does, one of `components.contract.Step`; empty for any other resource."""
        return self.inputs.get("environment.STEP", "")


Resources = Mapping[str, Resource]
"""The resources of one preview by URN."""


@dataclass(frozen=True, kw_only=True)
class InputChange:
    """An input that differs; without a value on a side that does not have it.

    Attributes:
        replaced: names of the replaced resources that it comes from, where that is all that changes.
    """

    path: str
    old: str | None = None
    new: str | None = None
    replaced: Sequence[str] = ()

    @property
    def is_text(self) -> bool:
        """Whether it is a file or a script, better shown line by line."""
        return any("\n" in side for side in (self.old, self.new) if side)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to a resource."""

    kind: Kind
    resource: Resource
    inputs: Sequence[InputChange] = ()


def name_of(urn: str) -> str:
    """The name of the resource that has this URN."""
    return urn.split("::")[-1]


def type_of(urn: str) -> str:
    """The type of the resource that has this URN, without those of the components around it."""
    return urn.split("::")[2].split("$")[-1]


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts core-2 before core-10."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def resources(preview: Mapping[str, Any]) -> Resources:
    """The resources in the output of `pulumi preview --json`, without components."""
    states = [step["newState"] for step in preview.get("steps", ()) if step.get("newState", {}).get("custom")]
    # A name that the provider generates differs in every preview.
    generated = {
        state["inputs"]["name"]: state["urn"]
        for state in states
        if "name" in (state.get("inputs", {}).get("__defaults") or ())
    }
    return {state["urn"]: _resource(state, generated) for state in states}


def _resource(state: Mapping[str, Any], generated: Mapping[str, str]) -> Resource:
    """A planned resource; `generated` has the URN of each generated name's resource."""
    inputs, awaits = {}, {}
    for path, value in _leaves(state.get("inputs", {}), ""):
        if path == "name" and generated.get(value) == state["urn"]:
            continue
        sources = state.get("propertyDependencies", {}).get(re.split(r"[.\[]", path)[0]) or []
        text = value.replace(UNKNOWN, f"(of {', '.join(sorted(map(name_of, sources)))})")
        for source in sources:
            # A Command's id is known in previews: its name and eight random digits.
            text = re.sub(rf"\b{re.escape(name_of(source))}[0-9a-f]{{8}}\b", f"(id of {name_of(source)})", text)
        for name, urn in generated.items():
            text = text.replace(name, f"(name of {name_of(urn)})")
        if text != value:
            awaits[path] = sources
        inputs[path] = text
    return Resource(
        urn=state["urn"],
        inputs=inputs,
        awaits=awaits,
        replacers=(*REPLACE_ONLY.get(type_of(state["urn"]), ()), *_paths(state.get("replaceOnChanges"))),
        ignored=_paths(state.get("ignoreChanges")),
    )


def _paths(patterns: Sequence[str] | None) -> Sequence[str]:
    return [pattern.removesuffix("[*]") for pattern in patterns or ()]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            if not key.startswith("__"):
                yield from _leaves(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}[{i}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def compare(old: Resources, new: Resources) -> Sequence[Change]:
    """What turns a stack like `old` into one like `new`, sorted by name; unchanged resources are left out."""
    changes = {urn: list(_differences(old[urn], new[urn])) for urn in old.keys() & new.keys()}
    replaced: set[str] = set()
    while True:
        found = {urn for urn, inputs in changes.items() if any(_is_in(i.path, new[urn].replacers) for i in inputs)}
        if found == replaced:
            break
        for urn in changes:
            changes[urn] += _consequences(new[urn], found - replaced, changes[urn])
        replaced = found
    return sorted(
        [
            *(Change(kind="added", resource=new[urn]) for urn in new.keys() - old.keys()),
            *(Change(kind="removed", resource=old[urn]) for urn in old.keys() - new.keys()),
            *(
                Change(
                    kind="replaced" if urn in replaced else "updated",
                    resource=new[urn],
                    inputs=sorted(inputs, key=lambda change: natural(change.path)),
                )
                for urn, inputs in changes.items()
                if inputs
            ),
        ],
        key=lambda change: (natural(change.resource.name), change.resource.urn),
    )


def _differences(old: Resource, new: Resource) -> Iterator[InputChange]:
    for path in old.inputs.keys() | new.inputs.keys():
        before, after = old.inputs.get(path), new.inputs.get(path)
        if before != after and not _is_in(path, new.ignored):
            yield InputChange(path=path, old=before, new=after)


def _consequences(resource: Resource, replaced: Collection[str], known: Sequence[InputChange]) -> Sequence[InputChange]:
    """The inputs that change because what they come from is replaced, except those that change anyway."""
    sources = {path: [name_of(urn) for urn in urns if urn in replaced] for path, urns in resource.awaits.items()}
    changed = {change.path for change in known}
    return [
        InputChange(path=path, replaced=sorted(names, key=natural))
        for path, names in sources.items()
        if names and path not in changed and not _is_in(path, resource.ignored)
    ]


def _is_in(path: str, groups: Collection[str]) -> bool:
    return any(path == group or path.startswith((f"{group}.", f"{group}[")) for group in groups)


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    """A rendered file that changes, and every resource that holds it; files that differ only by node count as one.

    Attributes:
        files: names of the resources that hold it, by the file's name: an input's, or a script's of `templates/`.
        texts: the unified differences, without headers; more than one only where nodes' own names and addresses differ.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def file_diffs(old: Resources, new: Resources, changes: Sequence[Change]) -> Sequence[FileDiff]:
    """Every rendered file that changes, once."""
    addresses = _addresses(old, new)
    added = {change.resource.urn for change in changes if change.kind == "added"}
    known = {
        form
        for resource in (*old.values(), *(resource for urn, resource in new.items() if urn not in added))
        for text in resource.inputs.values()
        if "\n" in text
        for form in _forms(text, resource, addresses)
    }
    found: dict[str, FileDiff] = {}
    for change in changes:
        resource = change.resource
        texts = [i for i in change.inputs if i.is_text]
        if change.kind == "added":
            inputs = [InputChange(path=path, new=text) for path, text in resource.inputs.items()]
            texts = [i for i in inputs if i.is_text and known.isdisjoint(_forms(i.new or "", resource, addresses))]
        for text in texts:
            difference = "\n".join(_unified(text.old or "", text.new or ""))
            forms = _forms(difference, resource, addresses)
            same = next((found[form] for form in forms if form in found), FileDiff())
            if difference not in same.texts:
                same.texts.append(difference)
            same.files.setdefault(file_name(resource, text.path), []).append(resource.name)
            found |= dict.fromkeys(forms, same)
    distinct = {id(diff): diff for diff in found.values()}.values()
    return sorted(distinct, key=lambda diff: (sorted(diff.files), diff.texts))


def _addresses(*sides: Resources) -> Mapping[str, Collection[str]]:
    found: dict[str, set[str]] = {}
    for side in sides:
        for resource in side.values():
            if "environment.NODE_ADDRESS" in resource.inputs:
                found.setdefault(resource.node, set()).add(resource.inputs["environment.NODE_ADDRESS"])
    return found


def _forms(text: str, resource: Resource, addresses: Mapping[str, Collection[str]]) -> Sequence[str]:
    """A text as it is, and with placeholders for its node's name and address, as which it may equal another node's."""
    form = any_node(text, resource.node)
    for address in addresses.get(resource.node, ()):
        form = any_node(form, address, "ADDRESS")
    return text, form


def any_node(text: str, own: str, placeholder: str = "NODE") -> str:
    """A text with a placeholder for a node's own name or address."""
    return re.sub(rf"(?<![0-9A-Za-z]){re.escape(own)}(?![0-9A-Za-z])", placeholder, text) if own else text


def file_name(resource: Resource, path: str) -> str:
    """The name of the text at this path of a resource."""
    if path == "environment.DELETE_SCRIPT":
        return resource.inputs.get("delete", path).split(" ")[-1]
    return path.removeprefix("environment.")


def _unified(old: str, new: str) -> Iterator[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="")
    return (line for i, line in enumerate(lines) if i > 1)
