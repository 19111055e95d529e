"""The services and configs of one recorded operation, as described in PROGRAM; `ref` names one of its configs."""

import json
import os

import pulumi
import pulumi_docker

program = json.loads(os.environ["PROGRAM"])
options = pulumi.ResourceOptions(
    provider=pulumi_docker.Provider("swarm", host=program["host"], ssh_opts=program["ssh_opts"])
)
configs: dict[str, pulumi_docker.ServiceConfig] = {}

for name, resource in program["resources"].items():
    arguments = resource["args"]
    if resource["type"] == "config":
        configs[name] = pulumi_docker.ServiceConfig(name, opts=options, **arguments)
        continue
    for reference in arguments["task_spec"]["container_spec"].get("configs", []):
        config = configs[reference.pop("ref")]
        reference |= {"config_id": config.id, "config_name": config.name}
    pulumi_docker.Service(name, opts=options, **arguments)
