"""The backend service: nginx on every chosen node's port 8080, which serves the content."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from components import PACKAGE, nginx
from components.config import Node
from components.rendering import render

TEMPLATE = "backend/nginx.conf"
HEALTH_PATH = "/.swarm-site/health"
CONFIGURATION = "/etc/swarm-site/nginx.conf"


@dataclass(frozen=True, kw_only=True)
class BackendArgs:
    """Inputs of `Backend`. `nodes` may serve; `memory` in MB; `mount` is the content's folder on each of them.

    `image_provided` is the step after which this machine has the image; `patience` multiplies what a health check
    and the service as a whole may take.
    """

    work: str
    nodes: Sequence[Node]
    replicas: int
    port: int
    memory: int
    image: pulumi.Input[str]
    image_provided: pulumi.Resource
    mount: pulumi.Input[str]
    provider: docker.Provider
    cluster: pulumi.Resource
    ready: Sequence[pulumi.Resource]
    patience: int = 1


class Backend(pulumi.ComponentResource):
    """Replicated nginx containers that serve the content on one port of their nodes.

    Creates: the nginx configuration, after nginx has tested it, and the service. Does not: bring image or content to
    a node.
    """

    endpoints: pulumi.Output[Sequence[str]]
    service: docker.Service

    def __init__(self, name: str, args: BackendArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Backend", name, None, opts)
        mount = pulumi.Output.from_input(args.mount)
        text = mount.apply(lambda path: render(TEMPLATE, root=f"{path}/current", health_path=HEALTH_PATH))
        checked = nginx.check(
            f"{name}-check",
            work=args.work,
            image=args.image,
            configuration=text,
            template=TEMPLATE,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.image_provided]),
        )
        configuration = docker.ServiceConfig(
            f"{name}-nginx",
            data_raw=text,
            opts=self._on_cluster(args, [args.cluster, checked]),  # a manager keeps it, and nginx accepts it
        )
        self.service = docker.Service(
            f"{name}-service",
            name=name,
            labels=nginx.labels(name),
            task_spec=nginx.task_spec(
                {
                    **nginx.container_spec(
                        name,
                        image=args.image,
                        configuration=CONFIGURATION,
                        folder=mount,
                        probe=f"http://127.0.0.1{HEALTH_PATH}",
                        patience=args.patience,
                        stop_seconds=10,
                    ),
                    "hostname": "{{.Node.Hostname}}",
                    "configs": [
                        {
                            "config_id": configuration.id,
                            "config_name": configuration.name,
                            "file_name": CONFIGURATION,
                            "file_mode": 0o444,
                        }
                    ],
                },
                args.memory,
            ),
            mode={"replicated": {"replicas": args.replicas}},
            endpoint_spec={"ports": [{"target_port": 80, "published_port": args.port, "publish_mode": "host"}]},
            # The old one has the node's port until it has ended.
            update_config={**nginx.UPDATE, "order": "stop-first", "failure_action": "rollback"},
            rollback_config={**nginx.ROLLBACK, "order": "stop-first"},
            converge_config={"delay": "1s", "timeout": f"{90 * args.patience}s"},
            # A task needs a node that has all it needs.
            opts=self._on_cluster(args, [args.cluster, *args.ready], delete_before_replace=True),
        )
        self.endpoints = pulumi.Output.from_input([f"{node.address}:{args.port}" for node in args.nodes])
        self.register_outputs({"endpoints": self.endpoints})

    def _on_cluster(
        self, args: BackendArgs, after: Sequence[pulumi.Resource], delete_before_replace: bool | None = None
    ) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self,
            provider=args.provider,
            deleted_with=args.cluster,
            delete_before_replace=delete_before_replace,
            depends_on=after,
        )
