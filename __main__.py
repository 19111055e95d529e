"""The flow, in one direction: config → machines → firewall → swarm → delivery → activation → applications → proxy."""

import pulumi

from components.application import Application, ApplicationArgs
from components.content import Content, ContentArgs
from components.firewall import Firewall
from components.image import Image, ImageArgs
from components.machines import Machines
from components.proxy import Proxy, ProxyArgs, ProxyBootstrap, ProxyBootstrapArgs
from components.settings import BACKEND, load
from components.swarm import Activation, ActivationArgs, Swarm, SwarmArgs

settings = load()

machines = Machines("machines", settings)
firewall = Firewall("firewall", settings, machines.machines)
swarm = Swarm("swarm", SwarmArgs(machines=machines.machines, firewalls=firewall.firewalls))

image = Image(
    "nginx",
    ImageArgs(
        checked=machines.folder,
        machines=machines.machines,
        source=settings.images.nginx,
        mirror=settings.images.mirror,
    ),
)
content = Content("content", ContentArgs(settings=settings.content, machines=machines.machines))
bootstrap = ProxyBootstrap(
    "proxy-seed",
    ProxyBootstrapArgs(settings=settings.proxy, workers=settings.machines.workers, machines=machines.proxies),
)

cluster = Activation(
    "ready",
    ActivationArgs(
        swarm=swarm,
        machines=machines.machines,
        delivered=[swarm.members, image.delivered, content.delivered, bootstrap.delivered],
        timeout_factor=settings.machines.timeout_factor,
    ),
).cluster
applications = {
    name: Application(
        name,
        ApplicationArgs(
            settings=application,
            content=settings.content,
            workers=settings.machines.workers,
            nodes=settings.nodes,
            image=image.ref,
            mount=content.mount,
            elsewhere=content.elsewhere,
            cluster=cluster,
        ),
    )
    for name, application in settings.applications.items()
}
proxy = Proxy(
    "proxy",
    ProxyArgs(
        settings=settings.proxy,
        workers=settings.machines.workers,
        machines=machines.proxies,
        routes=[application.route for application in applications.values()],
        image=image.ref,
        cluster=cluster,
    ),
)

pulumi.export("url", proxy.url)
pulumi.export("proxy_urls", proxy.urls)
pulumi.export("backend_endpoints", applications[BACKEND].endpoints)
pulumi.export("endpoints", {name: application.endpoints for name, application in applications.items()})
pulumi.export("nodes", machines.outputs)
pulumi.export("manager_endpoint", swarm.manager_endpoint)
pulumi.export("release", content.release)
pulumi.export("images", image.outputs)
