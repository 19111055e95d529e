# How a manager is found, and what it is asked to do with another node's entry.

# living_manager NAME…: prints the first of these nodes that manages a swarm with a quorum and answers within 5 s.
living_manager() {
  local name
  for name; do
    if made "$name" && LIMIT=5 on_node "$name" docker node ls -q </dev/null >/dev/null 2>&1; then
      echo "$name"
      return 0
    fi
  done
  return 1
}

# manager_among_peers: sets `manager` to a living manager that is another node.
manager_among_peers() {
  local names
  mapfile -t names < <(peers)
  manager=$(living_manager "${names[@]}")
}

# entries NAME, on a manager: the ids of all entries that bear this name, stale ones too.
entries() { docker node ls --format '{{.ID}} {{.Hostname}}' | awk -v name="$1" '$2 == name { print $1 }'; }

# remove_entries NAME, on a manager: an entry of a manager can only be removed after it was demoted. One that a swarm formed
# again has kept can't be demoted, but removed.
remove_entries() {
  local id words
  for id in $(entries "$1"); do
    words=$(docker node demote "$id" 2>&1) || true
    docker node rm --force "$id" >/dev/null || { echo "$words" >&2 && return 1; }
  done
}
