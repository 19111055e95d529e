"""An application: a service that serves the content on a port of its nodes, and the proxies' route to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from components.contract import HEALTH_PATH, LABEL_SERVICE, PACKAGE
from components.image import ImageRef
from components.release import LEFT_OUT_PATHS
from components.rendering import render
from components.service import NOBODY, Capacity, Route, ServiceSpec, capacity, service_inputs, test_configuration
from components.settings import ApplicationSettings, ContentSettings, Node
from components.swarm import Cluster

TEMPLATE = "application/nginx.conf"
CONFIGURATION = "/etc/swarm-site/nginx.conf"


def configuration(content: ContentSettings, mount: str, elsewhere: Sequence[str], capacity: Capacity) -> str:
    """Return the nginx.conf of an application; see `ApplicationArgs`."""
    folders = {"mount": mount, "elsewhere": elsewhere, "left_out": LEFT_OUT_PATHS}
    return render(TEMPLATE, content=content, health_path=HEALTH_PATH, capacity=capacity, **folders)


@dataclass(frozen=True, kw_only=True)
class ApplicationArgs:
    """Inputs of `Application`.

    Attributes:
        settings: settings of the application.
        content: content settings.
        nodes: nodes that may serve it.
        workers: number of nginx processes a node can run.
        image: container image.
        mount: content folder on each node, with the release in `current`.
        elsewhere: folders below `mount` for files missing from `current`.
        cluster: target cluster.
    """

    settings: ApplicationSettings
    content: ContentSettings
    workers: int
    nodes: Sequence[Node]
    image: ImageRef
    mount: str
    elsewhere: Sequence[str]
    cluster: Cluster


class Application(pulumi.ComponentResource):
    """Replicated nginx containers that serve the content on one port of their nodes.

    Creates the nginx configuration, after nginx has tested it, and the service. Does not deliver image or content to
    a node, or route visitors to it.
    """

    endpoints: pulumi.Output[Sequence[str]]
    route: pulumi.Output[Route]

    def __init__(self, name: str, args: ApplicationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # Stacks of an earlier version have it under this type.
        renamed = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_=f"{PACKAGE}:index:Backend")])
        super().__init__(f"{PACKAGE}:index:Application", name, None, pulumi.ResourceOptions.merge(opts, renamed))
        text = configuration(args.content, args.mount, args.elsewhere, capacity(args.settings.memory, args.workers))
        tested = test_configuration(
            f"{name}-check", image=args.image, configuration=text, template=TEMPLATE, parent=self
        )
        config = docker.ServiceConfig(
            f"{name}-nginx",
            data_raw=text,
            labels=[{"label": LABEL_SERVICE, "value": name}],
            opts=args.cluster.options(self, [tested]),
        )
        docker.Service(
            f"{name}-service",
            **service_inputs(specification(name, args), args.cluster.timeout_factor, config),
            # A task needs a node with everything it uses.
            opts=args.cluster.options(self, args.cluster.active, delete_before_replace=True),
        )
        self.endpoints = pulumi.Output.from_input([f"{node.address}:{args.settings.port}" for node in args.nodes])
        self.route = self.endpoints.apply(
            lambda endpoints: Route(
                name=name,
                hosts=args.settings.hosts,
                endpoints=endpoints,
                read_timeout=args.settings.read_timeout_s,
            )
        )
        self.register_outputs({"endpoints": self.endpoints})


def specification(name: str, args: ApplicationArgs) -> ServiceSpec:
    """Return the application's service."""
    return ServiceSpec(
        name=name,
        image=args.image,
        configuration=CONFIGURATION,
        mount=args.mount,
        replicas=args.settings.replicas,
        workers=capacity(args.settings.memory, args.workers).workers,
        listen=80,
        port=args.settings.port,
        health=f"http://127.0.0.1{HEALTH_PATH}",
        memory=args.settings.memory,
        stop_seconds=10,
        order="stop-first",  # the old task holds the node's port until it has ended
        hostname="{{.Node.Hostname}}",
        user=NOBODY,  # in a network of its own, a container needs no privilege to listen on port 80
    )
