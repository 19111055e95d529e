"""The proxies: their configuration, tested and reloaded in place, and the service on every chosen node's port 80."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components import PACKAGE, nginx, remote
from components.config import ProxySettings
from components.machines import Machine
from components.rendering import render
from components.swarm import PROXY_LABEL

MOUNT = "/srv/swarm-site/proxy"
TEMPLATE = "proxy/nginx.conf"
STATE_PATH = "/.swarm-site/configuration"


def configuration(settings: ProxySettings, endpoints: Sequence[str]) -> tuple[str, str]:
    """The text of a proxy's nginx.conf and its state: the hash that the running nginx answers with."""

    def text(state: str) -> str:
        return render(TEMPLATE, settings=settings, endpoints=endpoints, state_path=STATE_PATH, state=state)

    state = _hash(text(""))[:12]
    return text(state), state


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ProxySeedArgs:
    """Inputs of `ProxySeed`. `machines` are those that will hold a proxy."""

    work: str
    machines: Sequence[Machine]
    settings: ProxySettings


class ProxySeed(pulumi.ComponentResource):
    """What a proxy's node begins with: the configuration its peers serve, or a plain 502 page.

    Creates: one Command a node. Does not: know any backend.
    """

    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ProxySeedArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:ProxySeed", name, None, opts)
        text, _ = configuration(args.settings, [])
        self.delivered = {
            machine.node.name: remote.run(
                f"{name}-{machine.node.name}",
                create="proxy/seed.sh",
                environment={"WORK": args.work, "CONFIGURATION": text},
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=5,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for machine in args.machines
        }
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class ProxyArgs:
    """Inputs of `Proxy`. `machines` are those that hold a proxy; `endpoints` become the upstream list.

    `image_provided` is the step after which this machine has the image; `patience` multiplies what a health check
    and the service as a whole may take.
    """

    work: str
    machines: Sequence[Machine]
    settings: ProxySettings
    endpoints: pulumi.Output[Sequence[str]]
    image: pulumi.Input[str]
    image_provided: pulumi.Resource
    provider: docker.Provider
    cluster: pulumi.Resource
    ready: Sequence[pulumi.Resource]
    patience: int = 1


class Proxy(pulumi.ComponentResource):
    """nginx on the host network of every chosen node, which passes visitors on to the backends.

    Creates: the configuration on each node (a candidate, tested, made live by rename and reload), the global service,
    and the wait for its tasks. Does not: decide which backend answers; nginx does, request by request.
    """

    url: pulumi.Output[str]
    urls: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: ProxyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Proxy", name, None, opts)
        rendered = args.endpoints.apply(lambda endpoints: configuration(args.settings, endpoints))
        checked = nginx.check(
            f"{name}-check",
            work=args.work,
            image=args.image,
            configuration=rendered.apply(lambda pair: pair[0]),
            template=TEMPLATE,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.image_provided]),
        )
        configured = [
            remote.run(
                f"{name}-{machine.node.name}",
                create="proxy/configure.sh",
                environment={
                    "WORK": args.work,
                    "STATE_URL": f"http://127.0.0.1:{args.settings.port}{STATE_PATH}",
                    "CONFIGURATION": rendered.apply(lambda pair: pair[0]),
                    "STATE": rendered.apply(lambda pair: pair[1]),
                },
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=5,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[checked, *args.ready],  # its upstreams are there, and nginx accepts it
                ),
            )
            for machine in args.machines
        ]
        specification = service_specification(name, args)
        service = docker.Service(
            f"{name}-service",
            **specification,
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=args.provider,
                deleted_with=args.cluster,
                delete_before_replace=True,
                # A refresh reads the host network's id where the name was given, and that would replace the service.
                ignore_changes=["taskSpec.networksAdvanceds"],
                depends_on=[args.cluster, *configured],  # a proxy starts with the configuration that is wanted
            ),
        )
        remote.run(
            f"{name}-running",
            create="swarm/running.sh",
            environment={
                "WORK": args.work,
                "SERVICE": name,
                "LABEL": PROXY_LABEL,
                "PATIENCE": "120",
                "SPEC": pulumi.Output.json_dumps(specification, sort_keys=True).apply(_hash),
                "SERVICE_ID": service.id,
            },
            minutes=5 * args.patience,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=args.cluster),
        )
        port = "" if args.settings.port == 80 else f":{args.settings.port}"
        urls = [f"http://{machine.node.address}{port}/" for machine in args.machines]
        self.url = pulumi.Output.from_input(urls[0])
        self.urls = pulumi.Output.from_input(urls)
        self.register_outputs({"url": self.url, "urls": self.urls})


def service_specification(name: str, args: ProxyArgs) -> dict[str, Any]:
    """The inputs of the proxies' service, all of them known before it is made: their hash tells when it changes."""
    return {
        "name": name,
        "labels": nginx.labels(name),
        "task_spec": {
            **nginx.task_spec(
                nginx.container_spec(
                    name,
                    image=args.image,
                    configuration=f"{MOUNT}/current/nginx.conf",
                    folder=MOUNT,
                    probe=f"http://127.0.0.1:{args.settings.port}{STATE_PATH}",
                    patience=args.patience,
                    stop_seconds=20,
                ),
                args.settings.memory,
            ),
            "placement": {"constraints": [f"node.labels.{PROXY_LABEL}==true"]},
            "networks_advanceds": [{"id": "host"}],
        },
        "mode": {"global_": True},
        "update_config": {**nginx.UPDATE, "order": "start-first", "failure_action": "rollback"},
        "rollback_config": {**nginx.ROLLBACK, "order": "start-first"},
    }
