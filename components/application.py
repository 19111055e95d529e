"""An application: a service that serves the content on a port of its nodes, and the proxies' route to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from components.contract import LABEL_SERVICE, PACKAGE
from components.image import ImageRef
from components.rendering import render
from components.service import Route, ServiceSpec, service_inputs, test_configuration
from components.settings import ApplicationSettings, Node
from components.swarm import Cluster

TEMPLATE = "application/nginx.conf"
HEALTH_PATH = "/.swarm-site/health"
CONFIGURATION = "/etc/swarm-site/nginx.conf"


@dataclass(frozen=True, kw_only=True)
class ApplicationArgs:
    """Inputs of `Application`: `nodes` may serve it; `mount` is the content's folder on each of them."""

    settings: ApplicationSettings
    nodes: Sequence[Node]
    image: ImageRef
    mount: str
    cluster: Cluster


class Application(pulumi.ComponentResource):
    """Replicated nginx containers that serve the content on one port of their nodes.

    Creates: the nginx configuration, after nginx has tested it, and the service. Does not: bring image or content to
    a node, or send visitors to it.
    """

    endpoints: pulumi.Output[Sequence[str]]
    route: pulumi.Output[Route]

    def __init__(self, name: str, args: ApplicationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # Stacks of an earlier version have it under this type.
        renamed = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_=f"{PACKAGE}:index:Backend")])
        super().__init__(f"{PACKAGE}:index:Application", name, None, pulumi.ResourceOptions.merge(opts, renamed))
        text = render(TEMPLATE, root=f"{args.mount}/current", health_path=HEALTH_PATH)
        tested = test_configuration(
            f"{name}-check", image=args.image, configuration=text, template=TEMPLATE, parent=self
        )
        configuration = docker.ServiceConfig(
            f"{name}-nginx",
            data_raw=text,
            labels=[{"label": LABEL_SERVICE, "value": name}],
            opts=args.cluster.options(self, [tested]),
        )
        docker.Service(
            f"{name}-service",
            **service_inputs(specification(name, args), args.cluster.timeout_factor, configuration),
            # A task needs a node that has all it needs.
            opts=args.cluster.options(self, args.cluster.active, delete_before_replace=True),
        )
        self.endpoints = pulumi.Output.from_input([f"{node.address}:{args.settings.port}" for node in args.nodes])
        self.route = self.endpoints.apply(
            lambda endpoints: Route(name=name, hosts=args.settings.hosts, endpoints=endpoints)
        )
        self.register_outputs({"endpoints": self.endpoints})


def specification(name: str, args: ApplicationArgs) -> ServiceSpec:
    """The application's service."""
    return ServiceSpec(
        name=name,
        image=args.image,
        configuration=CONFIGURATION,
        mount=args.mount,
        replicas=args.settings.replicas,
        port=args.settings.port,
        health=f"http://127.0.0.1{HEALTH_PATH}",
        memory=args.settings.memory,
        stop_seconds=10,
        order="stop-first",  # the old task has the node's port until it has ended
        hostname="{{.Node.Hostname}}",
    )
