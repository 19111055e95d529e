"""The whole flow, one way: config → machines → swarm → delivery → ready → backend → proxy → outputs."""

import pulumi

from components import config
from components.backend import Backend, BackendArgs
from components.content import Content, ContentArgs
from components.images import Image, ImageArgs
from components.machines import Machines, MachinesArgs
from components.proxy import Proxy, ProxyArgs, ProxySeed, ProxySeedArgs
from components.swarm import Ready, ReadyArgs, Swarm, SwarmArgs

settings = config.load()
work = settings.work

machines = Machines(
    "machines",
    MachinesArgs(
        stack=settings.stack,
        work=work,
        network=settings.network,
        provider=settings.machines.provider,
        nodes=settings.nodes,
        box=settings.machines.box,
        patience=settings.patience,
        ports=(settings.backend.port, settings.proxy.port),
        mirror=settings.images.mirror,
    ),
)
swarm = Swarm("swarm", SwarmArgs(work=work, machines=machines.machines))

image = Image(
    "nginx",
    ImageArgs(
        work=work,
        workshop=machines.workshop,
        machines=machines.machines,
        source=settings.images.nginx,
        mirror=settings.images.mirror,
    ),
)
content = Content(
    "content",
    ContentArgs(
        work=work,
        machines=machines.machines,
        folder=settings.content.folder,
        release=settings.release,
        keep=settings.content.keep,
    ),
)
seed = ProxySeed("proxy-seed", ProxySeedArgs(work=work, machines=machines.proxies, settings=settings.proxy))

ready = Ready(
    "ready",
    ReadyArgs(
        work=work,
        machines=machines.machines,
        delivered=[swarm.members, image.delivered, content.delivered, seed.delivered],
    ),
)
backend = Backend(
    "backend",
    BackendArgs(
        nodes=settings.nodes,
        replicas=settings.backends,
        port=settings.backend.port,
        memory=settings.backend.memory,
        work=work,
        image=image.reference,
        image_provided=image.provided,
        mount=content.mount,
        provider=swarm.provider,
        cluster=swarm.cluster,
        ready=ready.resources,
        patience=settings.patience,
    ),
)
proxy = Proxy(
    "proxy",
    ProxyArgs(
        work=work,
        machines=machines.proxies,
        settings=settings.proxy,
        endpoints=backend.endpoints,
        image=image.reference,
        image_provided=image.provided,
        provider=swarm.provider,
        cluster=swarm.cluster,
        ready=ready.resources,
        patience=settings.patience,
    ),
)

pulumi.export("url", proxy.url)
pulumi.export("proxy_urls", proxy.urls)
pulumi.export("backend_endpoints", backend.endpoints)
pulumi.export("nodes", machines.outputs)
pulumi.export("manager_endpoint", swarm.manager_endpoint)
pulumi.export("release", content.release)
pulumi.export("images", image.outputs)
