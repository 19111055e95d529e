# shellcheck shell=bash
# Finds a manager, and has it work on another node's entry.

# has_quorum NAME SECONDS: the node answers in time, and manages a swarm with a leader.
has_quorum() { is_created "$1" && LIMIT=$2 on_node "$1" docker node ls -q </dev/null >/dev/null 2>&1; }

# living_manager NAME…: prints the first node that manages a swarm with a quorum and answers within 5 s.
living_manager() {
  local name
  for name; do
    if has_quorum "$name" 5; then
      echo "$name"
      return 0
    fi
  done
  return 1
}

# manager_among_peers: sets `manager` to a living manager other than this node.
manager_among_peers() {
  local names
  mapfile -t names < <(peers)
  # shellcheck disable=SC2034 # the caller reads it
  manager=$(living_manager "${names[@]}")
}

# entries NAME, on a manager: prints the ids of all entries of this name, including stale ones.
entries() { docker node ls --format '{{.ID}} {{.Hostname}}' | awk -v name="$1" '$2 == name { print $1 }'; }

# remove_entries NAME, on a manager: a manager's entry must be demoted before removal. An entry left from before a swarm
# was re-created can't be demoted, but can be removed.
remove_entries() {
  local id output
  for id in $(entries "$1"); do
    output=$(docker node demote "$id" 2>&1) || true
    docker node rm --force "$id" >/dev/null || { echo "$output" >&2 && return 1; }
  done
}
