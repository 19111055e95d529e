  config.vm.provider "docker" do |docker|
    docker.image = "@{ box }@"
    docker.name = "swarm-site-@{ stack }@-@{ node.name }@"
    # Vagrant looks for ssh in Docker's default network only, where any container would reach the machine.
    docker.has_ssh = false
    docker.remains_running = true
    docker.volumes = [
      "swarm-site-@{ stack }@-@{ node.name }@:/var/lib/docker",
      "#{File.expand_path("../../@{ contract.AUTHORIZED_KEYS.path }@", __dir__)}:/etc/ssh/authorized_keys:ro",
      "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    ]
    docker.create_args = [
      "--hostname=@{ node.name }@",
      "--network=swarm-site-@{ stack }@",
      "--ip=@{ node.address }@",
      "--label=@{ contract.LABEL_STACK }@=@{ stack }@",
      "--label=@{ contract.LABEL_NODE }@=@{ node.name }@",
      "--restart=unless-stopped",
      # A proxy gives up its connection to a vanished machine after 6 s instead of 15 minutes.
      "--sysctl=net.ipv4.tcp_retries2=4",
      "--memory=@{ node.memory }@m",
      "--memory-swap=@{ node.memory }@m",
      "--cpus=@{ node.cpus }@",
      "--cgroupns=host",
      "--cap-add=ALL",
      "--cap-drop=SYS_RESOURCE",
      "--security-opt=seccomp=unconfined",
      "--security-opt=apparmor=unconfined",
      "--security-opt=systempaths=unconfined",
      "--device-cgroup-rule=a *:* rwm",
      "--tmpfs=/run",
      "--tmpfs=/run/lock",
    ]
  end
