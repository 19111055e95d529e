  config.vm.boot_timeout = 600
  work = File.expand_path("../..", __dir__)
  config.vm.box = "swarm-site-@{ stack }@"
  config.vm.box_check_update = false
  config.vm.define "@{ node.name }@"
  # Vagrant reaches VirtualBox's machines by a forwarded port only; it is open to this machine alone.
  config.vm.network "forwarded_port", guest: 22, host: 2222, host_ip: "127.0.0.1", id: "ssh", auto_correct: true, disabled: false
  hostonly = File.join(work, "@{ contract.HOSTONLY_FILE.path }@")
  config.vm.network "private_network", ip: "@{ node.address }@", netmask: "@{ network.netmask }@", name: (File.read(hostonly).strip if File.exist?(hostonly))
  # The script logs in with Vagrant's well-known key, and then removes that key.
  config.ssh.private_key_path = [File.join(work, "@{ contract.KEY_FILE.path }@"), Vagrant.user_data_path.join("insecure_private_key").to_s]
  config.vm.provision "file", source: File.join(work, "@{ contract.RECIPE_FOLDER.path }@"), destination: "/tmp/recipe"
  config.vm.provision "shell", path: File.join(work, "@{ contract.RECIPE_FOLDER.path }@/provision"), args: ["@{ node.name }@"]
  config.vm.provider "virtualbox" do |virtualbox|
    virtualbox.name = "swarm-site-@{ stack }@-@{ node.name }@"
    virtualbox.memory = @{ node.memory }@
    virtualbox.cpus = @{ node.cpus }@
    virtualbox.customize ["modifyvm", :id, "--groups", "/swarm-site-@{ stack }@"]
    virtualbox.customize ["modifyvm", :id, "--description", "@{ box }@"]
  end
