"""The services and configs of one recorded operation, as PROGRAM describes them; `ref` names a config of it."""

import json
import os

import pulumi
import pulumi_docker

program = json.loads(os.environ["PROGRAM"])
options = pulumi.ResourceOptions(
    provider=pulumi_docker.Provider("swarm", host=program["host"], ssh_opts=program["ssh_opts"])
)
made: dict[str, pulumi_docker.ServiceConfig] = {}

for name, resource in program["resources"].items():
    arguments = resource["args"]
    if resource["type"] == "config":
        made[name] = pulumi_docker.ServiceConfig(name, opts=options, **arguments)
        continue
    for reference in arguments["task_spec"]["container_spec"].get("configs", []):
        config = made[reference.pop("ref")]
        reference |= {"config_id": config.id, "config_name": config.name}
    pulumi_docker.Service(name, opts=options, **arguments)
