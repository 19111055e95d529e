  # Emulation takes minutes where hardware virtualization takes seconds.
  config.vm.boot_timeout = 900
  work = File.expand_path("../..", __dir__)
  config.vm.box = "swarm-site-@{ stack }@"
  config.vm.box_check_update = false
  config.vm.define "@{ node.name }@"
  # A box built here boots with its own kernel, whose command line has the machine's name and the stack's key. A public one
  # gets them from a script, which logs in with Vagrant's well-known key and then removes that key.
  kernel = File.join(work, "@{ contract.KERNEL_FILE.path }@")
  if File.exist?(kernel)
    config.vm.hostname = nil
  else
    config.ssh.private_key_path = [File.join(work, "@{ contract.KEY_FILE.path }@"), Vagrant.user_data_path.join("insecure_private_key").to_s]
    config.vm.provision "file", source: File.join(work, "@{ contract.RECIPE_FOLDER.path }@"), destination: "/tmp/recipe"
    config.vm.provision "shell", path: File.join(work, "@{ contract.RECIPE_FOLDER.path }@/provision"), args: ["@{ node.name }@"]
  end
  config.vm.provider "libvirt" do |libvirt|
    libvirt.uri = "qemu:///system"
    libvirt.title = "@{ box }@"
    libvirt.description = "swarm-site @{ stack }@ @{ node.name }@"
    libvirt.default_prefix = "swarm-site-@{ stack }@-"
    libvirt.autostart = true
    libvirt.memory = @{ node.memory }@
    libvirt.cpus = @{ node.cpus }@
    libvirt.driver = File.exist?(File.join(work, "@{ contract.EMULATED.path }@")) ? "qemu" : "kvm"
    libvirt.cpu_mode = libvirt.driver == "kvm" ? "host-passthrough" : "custom"
    libvirt.cpu_model = "qemu64" unless libvirt.driver == "kvm"
    libvirt.graphics_type = "none"
    libvirt.memballoon_enabled = false
    libvirt.random model: "random"
    libvirt.serial type: "file", source: { path: "/var/lib/libvirt/images/swarm-site-@{ stack }@/@{ node.name }@.console" }
    libvirt.storage_pool_name = "swarm-site-@{ stack }@"
    # The machine's one card is in the stack's network: Vagrant needs no second network for itself.
    libvirt.management_network_name = "swarm-site-@{ stack }@"
    libvirt.management_network_address = "@{ network }@"
    libvirt.management_network_mac = "@{ '52:54:%02x:%02x:%02x:%02x'|format(*node.address.split('.')|map('int')) }@"
    libvirt.management_network_keep = true
    libvirt.management_network_autostart = true
    if File.exist?(kernel)
      libvirt.kernel = "#{File.read(kernel).strip}.vmlinuz"
      libvirt.initrd = "#{File.read(kernel).strip}.initrd"
      key = File.read(File.join(work, "@{ contract.KEY_FILE.path }@.pub")).split[1]
      libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 quiet systemd.hostname=@{ node.name }@ swarm-site.key=#{key}"
    end
  end
