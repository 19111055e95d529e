# Vagrant's docker provider. Inputs: WORK, STACK.

# remove_machine NAME: the machine, its volume and its folder, whether it is alive, stopped, half made or gone.
remove_machine() {
  local folder=$WORK/machines/$1 container=swarm-site-$STACK-$1
  docker info >/dev/null || fail "the Docker daemon of this machine does not answer; run: tools/setup up"
  if [[ -e $folder/ssh_config ]]; then ssh -F "$folder/ssh_config" -O exit "$1" >/dev/null 2>&1 || true; fi
  if [[ -e $folder/Vagrantfile ]]; then
    (cd "$folder" && timeout --foreground 120 vagrant destroy -f) </dev/null >>"$folder/log" 2>&1 9>&- ||
      say "vagrant destroy failed ($(tail -n 1 "$folder/log")); its container is removed directly"
  fi
  if docker container inspect "$container" >/dev/null 2>&1; then docker rm -fv "$container" >/dev/null; fi
  if docker volume inspect "$container" >/dev/null 2>&1; then docker volume rm "$container" >/dev/null; fi
  rm -rf "$folder"
}
