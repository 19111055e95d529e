"""The inputs of the docker plugin's resources as tables: types, rules, defaults, and their names in the Docker API.

A single table validates a program's inputs, fills in defaults, finds changes, and converts a resource to and from the
API's format. Inputs missing from the tables are rejected.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from typing_extensions import override

from provider import UNKNOWN, Kind, Properties, PropertyPath, Value, path_text

# A path, the kind of change, and whether it replaces the resource.
Change = tuple[PropertyPath, Kind.ValueType, bool]
Problem = tuple[PropertyPath, str]

UNITS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


class Type(ABC):
    """The type of a property."""

    @abstractmethod
    def problems(self, value: Value, path: PropertyPath) -> Iterator[Problem]:
        """Yields the problems of a known value."""

    @abstractmethod
    def changes(self, old: Value, new: Value, path: PropertyPath) -> Iterator[Change]:
        """Yields the differences."""

    def plan(self, new: Value, old: Value) -> Value:
        """Returns the new value with defaults filled in."""
        return new

    def to_api(self, value: Value) -> Any:
        """Returns the value in the API's format; None means not sent."""
        return value

    def same(self, old: Value, new: Value) -> bool:
        """Returns whether Docker, which omits zero and empty values, treats two values as equal."""
        return bool(meaning(self.to_api(old)) == meaning(None if new is None else self.to_api(new)))

    def from_api(self, value: Any) -> Value:
        """Returns the property's value for an API value."""
        return value


@dataclass(frozen=True)
class Scalar(Type):
    """A single value; unset counts as empty, so setting it is an update."""

    python: type
    expected: str
    fault: Callable[[Any], str | None] = lambda _: None
    write: Callable[[Any], Any] = lambda value: value
    parse: Callable[[Any], Any] = lambda value: value

    @override
    def problems(self, value: Value, path: PropertyPath) -> Iterator[Problem]:
        if not isinstance(value, self.python) or (self.python is int and isinstance(value, bool)):
            yield path, f"must be {self.expected}; got {value!r}."
        elif fault := self.fault(value):
            yield path, fault

    @override
    def changes(self, old: Value, new: Value, path: PropertyPath) -> Iterator[Change]:
        if old != new and (old or new):
            yield path, Kind.DELETE if new is None else Kind.UPDATE, False

    @override
    def to_api(self, value: Value) -> Any:
        return self.write(value)

    @override
    def from_api(self, value: Any) -> Value:
        return self.parse(value)


@dataclass(frozen=True)
class Many(Type):
    """A list, or a set: a list whose order does not matter."""

    item: Type
    ordered: bool = True
    write: Callable[[list[Any]], Any] = lambda items: items
    parse: Callable[[Any], list[Any]] = lambda value: list(value)

    @override
    def problems(self, value: Value, path: PropertyPath) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield path, f"must be a list; got {value!r}."
            return
        for i, item in enumerate(value):
            if item is not UNKNOWN:
                yield from self.item.problems(item, (*path, i))

    @override
    def changes(self, old: Value, new: Value, path: PropertyPath) -> Iterator[Change]:
        if not old and not new:
            return
        if not old or not new:
            yield path, Kind.ADD if new else Kind.DELETE, False
            return
        if new is UNKNOWN:
            yield path, Kind.UPDATE, False
            return
        # In a set, only items missing from the other side count.
        left = [i for i, item in enumerate(old) if self.ordered or item not in new]
        right = [i for i, item in enumerate(new) if self.ordered or item not in old]
        for i, k in zip_longest(left, right):
            if i is None or k is None:
                yield (*path, k if i is None else i), Kind.ADD if i is None else Kind.DELETE, False
            else:
                yield from self.item.changes(old[i], new[k], (*path, k))

    @override
    def plan(self, new: Value, old: Value) -> Value:
        olds = old if isinstance(old, list) else []
        return [
            item if item is UNKNOWN else self.item.plan(item, olds[i] if i < len(olds) else None)
            for i, item in enumerate(new)
        ]

    @override
    def same(self, old: Value, new: Value) -> bool:
        left, right = ([meaning(self.item.to_api(item)) for item in items or ()] for items in (old, new))
        return left == right if self.ordered else same_items(left, right)

    @override
    def to_api(self, value: Value) -> Any:
        return self.write([self.item.to_api(item) for item in value])

    @override
    def from_api(self, value: Any) -> Value:
        return [self.item.from_api(item) for item in self.parse(value)]


@dataclass(frozen=True)
class TextMap(Type):
    """A map of strings."""

    write: Callable[[dict[str, str]], Any] = lambda items: items
    parse: Callable[[Any], dict[str, str]] = lambda value: dict(value)

    @override
    def problems(self, value: Value, path: PropertyPath) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield path, f"must be a map of strings; got {value!r}."
            return
        for key, item in value.items():
            if item is not UNKNOWN:
                yield from TEXT.problems(item, (*path, key))

    @override
    def changes(self, old: Value, new: Value, path: PropertyPath) -> Iterator[Change]:
        if new is UNKNOWN or (new and not old):
            yield path, Kind.UPDATE if old else Kind.ADD, False
            return
        old, new = old or {}, new or {}
        for key in sorted(old.keys() | new.keys()):
            if key not in new or key not in old:
                yield (*path, key), Kind.ADD if key in new else Kind.DELETE, False
            elif old[key] != new[key]:
                yield (*path, key), Kind.UPDATE, False

    @override
    def same(self, old: Value, new: Value) -> bool:
        return (old or {}) == (new or {})

    @override
    def to_api(self, value: Value) -> Any:
        return self.write(value)

    @override
    def from_api(self, value: Any) -> Value:
        return self.parse(value)


@dataclass(frozen=True)
class Field:
    """One property of a block."""

    type: Type
    api: str = ""
    default: Value = None
    required: bool = False
    kept: bool = False  # if omitted from the program, keeps its old value
    replaces: bool = False  # a change replaces the resource
    unset: Any = None  # the API's value if it is omitted


@dataclass(frozen=True)
class Block(Type):
    """A group of named properties."""

    fields: Mapping[str, Field]

    @override
    def problems(self, value: Value, path: PropertyPath) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield path, f"must be a group of properties; got {value!r}."
            return
        for key, item in value.items():
            if key not in self.fields and not key.startswith("__"):
                known = ", ".join(sorted(self.fields))
                yield (*path, key), f"Unknown input '{key}': the bundled docker plugin knows {known} here."
            elif key in self.fields and item is not UNKNOWN and item is not None:
                yield from self.fields[key].type.problems(item, (*path, key))
        for key, field in self.fields.items():
            if field.required and value.get(key) is None:
                yield (*path, key), f"'{key}' is missing."

    @override
    def changes(self, old: Value, new: Value, path: PropertyPath) -> Iterator[Change]:
        if old is None or new is None or new is UNKNOWN:
            if old is not new:
                yield path, Kind.ADD if old is None else Kind.DELETE if new is None else Kind.UPDATE, False
            return
        for key, field in self.fields.items():
            for where, kind, replaces in field.type.changes(old.get(key), new.get(key), (*path, key)):
                yield where, kind, replaces or field.replaces

    @override
    def plan(self, new: Value, old: Value) -> Properties:
        """Fills in defaults and kept values."""
        olds = old if isinstance(old, dict) else {}
        planned: Properties = {}
        for key, field in self.fields.items():
            value = new.get(key)
            if value is UNKNOWN:
                planned[key] = UNKNOWN
            elif value is not None:
                planned[key] = field.type.plan(value, olds.get(key))
            elif field.kept and olds.get(key) is not None:
                planned[key] = olds[key]
            elif field.default is not None:
                planned[key] = field.default
        return planned

    @override
    def to_api(self, value: Value) -> Any:
        result: dict[str, Any] = {}
        for key, field in self.fields.items():
            item = value.get(key)
            written = field.unset if item is None else field.type.to_api(item)
            if written is not None and field.api:
                *parents, last = field.api.split(".")
                group = result
                for parent in parents:
                    group = group.setdefault(parent, {})
                group[last] = written
        return result

    @override
    def from_api(self, value: Any) -> Value:
        result: Properties = {}
        for key, field in self.fields.items():
            item = value
            for step in field.api.split(".") if field.api else ():
                item = item.get(step) if isinstance(item, dict) else None
            if field.api and item is not None:
                result[key] = field.type.from_api(item)
        return result

    def refreshed(self, known: Properties, seen: Properties) -> Properties:
        """Returns the properties in the state, or a program's inputs, after a refresh.

        Args:
            known: The properties in the state or the program.
            seen: The properties in Docker. A value equivalent to the known one does not replace it.
        """
        result = {key: value for key, value in known.items() if key.startswith("__")}
        for key, field in self.fields.items():
            old, new = known.get(key), seen.get(key)
            if not field.api:
                value = old
            elif isinstance(field.type, Block) and old is not None:
                value = field.type.refreshed(old, new or {})
            elif old is None:
                added = new is not None and new != field.default and meaning(field.type.to_api(new))
                value = new if added and not field.kept else None
            else:
                value = old if field.type.same(old, new) else new
            if value is not None:
                result[key] = value
        return result


def meaning(value: Any) -> Any:
    """Returns an API value without its zero and empty parts."""
    if isinstance(value, dict):
        return {key: rest for key, item in value.items() if (rest := meaning(item))}
    if isinstance(value, list):
        return [meaning(item) for item in value]
    return value or None


def same_items(left: list[Value], right: list[Value]) -> bool:
    """Compares two lists regardless of order."""
    rest = list(right)
    for item in left:
        if item not in rest:
            return False
        rest.remove(item)
    return not rest


def fits(pattern: str) -> Callable[[str], str | None]:
    """Returns a rule that requires text to match a pattern."""

    def fault(text: str) -> str | None:
        return None if re.search(pattern, text) else twice(f"'{text}' doesn't match the pattern '{pattern}'.")

    return fault


def twice(sentence: str) -> str:
    """Repeats a message as the official plugin does: as the headline and as the detail."""
    return f"{sentence} {sentence}"


def nanoseconds(text: str) -> int | None:
    """Returns the length of a duration such as `1m30s`; None if it is invalid."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if text == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return round(sum(float(number) * UNITS[unit] for number, unit in parts))


def duration(length: int) -> str:
    """Formats nanoseconds the short way: `500ms`, `1m30s`, `1h`."""
    if length % UNITS["s"]:
        unit = next(unit for unit in ("ms", "us", "ns") if length % UNITS[unit] == 0)
        return f"{length // UNITS[unit]}{unit}"
    hours, rest = divmod(length // UNITS["s"], 3600)
    text = "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (rest // 60, "m"), (rest % 60, "s")) if number)
    return text or "0s"


def duration_fault(text: str) -> str | None:
    """Returns the error in a duration, if any."""
    return None if nanoseconds(text) is not None else twice(f"'{text}' is not a valid duration.")


def ratio_fault(text: str) -> str | None:
    """Returns the error in a ratio, if any."""
    try:
        ratio = float(text)
    except ValueError:
        return twice(f"'{text}' is not a float.")
    return None if 0 <= ratio <= 1 else twice(f"'{text}' has to be between 0.0 and 1.0.")


def count_fault(number: int) -> str | None:
    """Returns the error in a count, if any."""
    return None if number >= 0 else twice(f"'{number}' has to be equal or greater than 0.")


def pairs(items: dict[str, str]) -> list[str]:
    """Converts a map to `key=value` strings."""
    return [f"{key}={value}" for key, value in items.items()]


def unpaired(items: list[str]) -> dict[str, str]:
    """Converts `key=value` strings to a map."""
    return {key: value for key, _, value in (item.partition("=") for item in items)}


def one_of(*choices: str) -> Scalar:
    """A string with a fixed set of values."""
    return Scalar(str, "a string", fits(f"^({'|'.join(choices)})$"))


def required(type_: Type, api: str) -> Field:
    """A required property."""
    return Field(type_, api, required=True)


TEXT = Scalar(str, "a string")
FLAG = Scalar(bool, "a boolean")
NUMBER = Scalar(int, "a whole number")
COUNT = Scalar(int, "a whole number", count_fault)
DURATION = Scalar(str, "a string", duration_fault, nanoseconds, duration)
RATIO = Scalar(str, "a string", ratio_fault, float, lambda number: f"{number:.1f}")
# Docker represents "global" by an empty object, and "not global" by none.
GLOBAL = Scalar(bool, "a boolean", write=lambda on: {} if on else None, parse=lambda _: True)
TEXTS = Many(TEXT)
TEXT_SET = Many(TEXT, ordered=False)
ENVIRONMENT = TextMap(write=pairs, parse=unpaired)
PREFERENCES = Many(
    Scalar(
        str,
        "a string",
        write=lambda text: {"Spread": {"SpreadDescriptor": text}},
        parse=lambda group: group["Spread"]["SpreadDescriptor"],
    ),
    ordered=False,
)
LABELS = Many(
    Block({"label": required(TEXT, "label"), "value": required(TEXT, "value")}),
    ordered=False,
    write=lambda labels: {item["label"]: item["value"] for item in labels},
    parse=lambda labels: [{"label": key, "value": labels[key]} for key in sorted(labels)],
)
HOSTS = Many(
    Block({"ip": required(TEXT, "ip"), "host": required(TEXT, "host")}),
    ordered=False,
    write=lambda hosts: [f"{item['ip']} {item['host']}" for item in hosts],
    parse=lambda lines: [dict(zip(("ip", "host"), line.split(" ", 1), strict=True)) for line in lines],
)
ROLLOUT = {
    "parallelism": Field(COUNT, "Parallelism", default=1),
    "delay": Field(DURATION, "Delay", default="0s"),
    "failureAction": Field(one_of("pause", "continue", "rollback"), "FailureAction", default="pause"),
    "monitor": Field(DURATION, "Monitor", default="5s"),
    "maxFailureRatio": Field(RATIO, "MaxFailureRatio", default="0.0"),
    "order": Field(one_of("stop-first", "start-first"), "Order", default="stop-first"),
}
ROLLBACK = {**ROLLOUT, "failureAction": Field(one_of("pause", "continue"), "FailureAction", default="pause")}
MOUNT = {
    "target": required(TEXT, "Target"),
    "source": Field(TEXT, "Source"),
    "type": required(one_of("bind", "volume", "tmpfs"), "Type"),
    "readOnly": Field(FLAG, "ReadOnly"),
    "bindOptions": Field(
        Block(
            {"propagation": Field(one_of("private", "rprivate", "shared", "rshared", "slave", "rslave"), "Propagation")}
        ),
        "BindOptions",
    ),
    "tmpfsOptions": Field(
        Block({"sizeBytes": Field(NUMBER, "SizeBytes"), "mode": Field(NUMBER, "Mode")}), "TmpfsOptions"
    ),
}
HEALTHCHECK = {
    "tests": required(TEXTS, "Test"),
    "interval": Field(DURATION, "Interval", default="0s"),
    "timeout": Field(DURATION, "Timeout", default="0s"),
    "startPeriod": Field(DURATION, "StartPeriod", default="0s"),
    "retries": Field(COUNT, "Retries", default=0),
}
CONFIG_REFERENCE = {
    "configId": required(TEXT, "ConfigID"),
    "configName": Field(TEXT, "ConfigName"),
    "fileName": required(TEXT, "File.Name"),
    "fileUid": Field(TEXT, "File.UID", default="0"),
    "fileGid": Field(TEXT, "File.GID", default="0"),
    "fileMode": Field(COUNT, "File.Mode", default=0o444),
}
DNS = {
    "nameservers": required(TEXTS, "Nameservers"),
    "searches": Field(TEXTS, "Search"),
    "options": Field(TEXTS, "Options"),
}
CONTAINER = {
    "image": required(TEXT, "Image"),
    "labels": Field(LABELS, "Labels", replaces=True),
    "commands": Field(TEXTS, "Command"),
    "args": Field(TEXTS, "Args"),
    "hostname": Field(TEXT, "Hostname"),
    "env": Field(ENVIRONMENT, "Env"),
    "dir": Field(TEXT, "Dir"),
    "user": Field(TEXT, "User"),
    "groups": Field(TEXTS, "Groups"),
    "readOnly": Field(FLAG, "ReadOnly"),
    "mounts": Field(Many(Block(MOUNT), ordered=False), "Mounts"),
    "stopSignal": Field(TEXT, "StopSignal"),
    # Omitted, it means no grace period: the official plugin sends 0, and Docker kills the container at once.
    "stopGracePeriod": Field(DURATION, "StopGracePeriod", kept=True, unset=0),
    "healthcheck": Field(Block(HEALTHCHECK), "Healthcheck", kept=True),
    "hosts": Field(HOSTS, "Hosts", replaces=True),
    "dnsConfig": Field(Block(DNS), "DNSConfig", kept=True),
    "configs": Field(Many(Block(CONFIG_REFERENCE), ordered=False), "Configs"),
    "isolation": Field(one_of("default", "process", "hyperv"), "Isolation", default="default"),
    "sysctl": Field(TextMap(), "Sysctls"),
    "capAdds": Field(TEXTS, "CapabilityAdd"),
    "capDrops": Field(TEXTS, "CapabilityDrop"),
    "init": Field(FLAG, "Init"),
}
MEASURES = {"nanoCpus": Field(NUMBER, "NanoCPUs"), "memoryBytes": Field(NUMBER, "MemoryBytes")}
# Omitted parts of a restart policy are sent as zeros, not as Docker's own defaults.
RESTART = {
    "condition": Field(one_of("none", "on-failure", "any"), "Condition"),
    "delay": Field(DURATION, "Delay", unset=0),
    "maxAttempts": Field(COUNT, "MaxAttempts", unset=0),
    "window": Field(DURATION, "Window", unset=0),
}
PLACEMENT = {
    "constraints": Field(TEXT_SET, "Constraints"),
    "prefs": Field(PREFERENCES, "Preferences"),
    "maxReplicas": Field(COUNT, "MaxReplicas"),
}
NETWORK = {
    "id": required(TEXT, "Target"),
    "aliases": Field(TEXT_SET, "Aliases"),
    "driverOpts": Field(Many(TEXT, ordered=False, write=unpaired, parse=pairs), "DriverOpts"),
}
TASK = {
    "containerSpec": required(Block(CONTAINER), "ContainerSpec"),
    "resources": Field(
        Block({"limits": Field(Block(MEASURES), "Limits"), "reservation": Field(Block(MEASURES), "Reservations")}),
        "Resources",
        kept=True,
    ),
    "restartPolicy": Field(Block(RESTART), "RestartPolicy", kept=True),
    "placement": Field(Block(PLACEMENT), "Placement", kept=True),
    "forceUpdate": Field(COUNT, "ForceUpdate", kept=True),
    "networksAdvanceds": Field(Many(Block(NETWORK), ordered=False), "Networks", replaces=True),
    "logDriver": Field(Block({"name": required(TEXT, "Name"), "options": Field(TextMap(), "Options")}), "LogDriver"),
}
PORT = {
    "name": Field(TEXT, "Name"),
    "protocol": Field(one_of("tcp", "udp", "sctp"), "Protocol", default="tcp"),
    "targetPort": required(NUMBER, "TargetPort"),
    "publishedPort": Field(NUMBER, "PublishedPort", kept=True),
    "publishMode": Field(one_of("host", "ingress"), "PublishMode", default="ingress"),
}
MODE = {
    "global": Field(GLOBAL, "Global", default=False),
    "replicated": Field(Block({"replicas": Field(COUNT, "Replicas", default=1)}), "Replicated", kept=True),
}
SERVICE = Block(
    {
        "name": Field(TEXT, "Name", replaces=True),
        "labels": Field(LABELS, "Labels", kept=True),
        "taskSpec": required(Block(TASK), "TaskTemplate"),
        "mode": Field(Block(MODE), "Mode", kept=True),
        "updateConfig": Field(Block(ROLLOUT), "UpdateConfig"),
        "rollbackConfig": Field(Block(ROLLBACK), "RollbackConfig"),
        "endpointSpec": Field(
            Block(
                {"mode": Field(one_of("vip", "dnsrr"), "Mode", kept=True), "ports": Field(Many(Block(PORT)), "Ports")}
            ),
            "EndpointSpec",
            kept=True,
        ),
        "convergeConfig": Field(
            Block({"delay": Field(DURATION, default="7s"), "timeout": Field(DURATION, default="3m")})
        ),
    }
)
CONFIG = Block(
    {
        "name": Field(TEXT, "Name", replaces=True),
        "data": Field(TEXT, replaces=True),
        "dataRaw": Field(TEXT, replaces=True),
        "labels": Field(LABELS, "Labels", replaces=True),
    }
)


def sentence(name: str, problem: Problem) -> str:
    """Formats a problem as the official plugin does, with the path of the value."""
    path, text = problem
    return f"{text} Examine values at '{path_text((name, *path))}'."
