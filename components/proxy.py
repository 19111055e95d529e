"""The proxies: nginx configuration, tested and reloaded in place, and the service on port 80 of every proxy node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components.contract import FOLDER_PROXY, PACKAGE, Step
from components.digest import text_hash
from components.image import ImageRef
from components.rendering import render
from components.scripts import Machine, on_each, script
from components.service import Route, ServiceSpec, capacity, service_inputs, test_configuration
from components.settings import ProxySettings
from components.swarm import Cluster

TEMPLATE = "proxy/nginx.conf"
STATE_PATH = "/.swarm-site/configuration"


def configuration(settings: ProxySettings, routes: Sequence[Route], workers: int = 1) -> tuple[str, str]:
    """Return the nginx.conf of a proxy and its state: the hash with which the running nginx answers.

    The first route without host names is the default; further routes without host names get no visitors.

    Args:
        settings: proxy settings.
        routes: routes to the applications.
        workers: number of nginx processes the node can run.
    """
    default = next((route for route in routes if not route.hosts), None)
    named = [route for route in routes if route.hosts]
    served = [default, *named] if default else named

    def text(state: str) -> str:
        given = {"state_path": STATE_PATH, "state": state, "capacity": capacity(settings.memory, workers)}
        return render(TEMPLATE, settings=settings, routes=served, default=default, named=named, **given)

    state = text_hash(text(""))[:12]
    return text(state), state


@dataclass(frozen=True, kw_only=True)
class ProxyBootstrapArgs:
    """Inputs of `ProxyBootstrap`. `machines` are the future proxy nodes; `workers` is the limit per machine."""

    settings: ProxySettings
    workers: int
    machines: Sequence[Machine]


class ProxyBootstrap(pulumi.ComponentResource):
    """Initial content of a proxy node: the configuration its peers serve, or a plain 502 page.

    Creates one Command per node. Knows no routes.
    """

    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ProxyBootstrapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:ProxyBootstrap", name, None, opts)
        text, _ = configuration(args.settings, [], args.workers)
        self.delivered = on_each(
            name,
            args.machines,
            step=Step.PROXY_BOOTSTRAP,
            create="proxy/bootstrap.sh",
            environment={"CONFIGURATION": text},
            minutes=5,
            parent=self,
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class ProxyArgs:
    """Inputs of `Proxy`. `machines` run a proxy each, with up to `workers` processes; `routes` become its upstreams."""

    settings: ProxySettings
    workers: int
    machines: Sequence[Machine]
    routes: Sequence[pulumi.Input[Route]]
    image: ImageRef
    cluster: Cluster


class Proxy(pulumi.ComponentResource):
    """nginx on the host network of every proxy node, forwarding visitors to the applications.

    Creates the configuration on each node (candidate, test, rename, reload), the global service and the wait for its
    tasks. Does not decide which endpoint answers; nginx does, per request.
    """

    url: pulumi.Output[str]
    urls: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: ProxyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Proxy", name, None, opts)
        configured = self._configure(name, args)
        spec = specification(name, args)
        inputs = service_inputs(spec, args.cluster.timeout_factor)
        service = docker.Service(
            f"{name}-service",
            **inputs,
            opts=args.cluster.options(
                self,
                configured,  # proxies start with the current configuration
                delete_before_replace=True,
                # A refresh reads the host network's id where we set its name; that would replace the service.
                ignore_changes=["taskSpec.networksAdvanceds"],
            ),
        )
        script(
            f"{name}-running",
            step=Step.SERVICE_TASKS,
            create="swarm/wait_for_tasks.sh",
            environment={
                "SERVICE": name,
                "SECONDS_ALLOWED": "120",
                "SPEC": pulumi.Output.json_dumps(inputs, sort_keys=True).apply(text_hash),
                "SERVICE_ID": service.id,
            },
            minutes=5 * args.cluster.timeout_factor,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=args.cluster.resource),
        )
        port = "" if args.settings.port == 80 else f":{args.settings.port}"
        urls = [f"http://{machine.node.address}{port}/" for machine in args.machines]
        self.url = pulumi.Output.from_input(urls[0])
        self.urls = pulumi.Output.from_input(urls)
        self.register_outputs({"url": self.url, "urls": self.urls})

    def _configure(self, name: str, args: ProxyArgs) -> list[command.local.Command]:
        rendered = pulumi.Output.all(*args.routes).apply(
            lambda routes: configuration(args.settings, routes, args.workers)
        )
        text, state = rendered[0], rendered[1]
        tested = test_configuration(
            f"{name}-check", image=args.image, configuration=text, template=TEMPLATE, parent=self
        )
        configured = on_each(
            name,
            args.machines,
            step=Step.PROXY_CONFIGURATION,
            create="proxy/configure.sh",
            environment={
                "STATE_URL": f"http://127.0.0.1:{args.settings.port}{STATE_PATH}",
                "CONFIGURATION": text,
                "STATE": state,
            },
            minutes=5,
            parent=self,
            after=lambda _: [tested, *args.cluster.active],  # nginx accepts it, and its upstreams exist
        )
        return list(configured.values())


def specification(name: str, args: ProxyArgs) -> ServiceSpec:
    """Return the proxy service: one task on each node with the proxy label."""
    return ServiceSpec(
        name=name,
        image=args.image,
        configuration=f"{FOLDER_PROXY}/current/nginx.conf",
        mount=FOLDER_PROXY,
        replicas=None,
        workers=capacity(args.settings.memory, args.workers).workers,
        listen=args.settings.port,
        port=None,
        health=f"http://127.0.0.1:{args.settings.port}{STATE_PATH}",
        memory=args.settings.memory,
        stop_seconds=20,
        order="start-first",
        # Root opens the port, gives nginx's folders to the user of the workers, and becomes that user.
        capabilities=["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"],
    )
