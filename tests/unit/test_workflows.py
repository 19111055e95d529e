"""GitHub workflows: their permissions, and their own steps, run with a stub of `gh`."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OWN_BRANCH = "github.event.pull_request.head.repo.full_name == github.repository"

# Records its calls; KNOWN holds the ids of our existing comments.
GH = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in
  *--jq*) printf '%s' "$KNOWN" ;;
  *) cp comment.md "$CALLS.body" ;;
esac
"""


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return loaded


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in workflow(path.name)["jobs"].items():
            yield f"{path.stem}/{name}", job


def step(job: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [step for step in job["steps"] if step.get("name") == name]
    return dict(found)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(path: Path) -> None:
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w/.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_no_workflow_runs_a_pull_requests_code_with_a_token_that_writes() -> None:
    for path in WORKFLOWS:
        events = workflow(path.name)[True]  # YAML's `on`
        assert not {"pull_request_target", "workflow_run"} & set(events)
        assert workflow(path.name)["permissions"] in ({}, {"contents": "read"})
    for name, job in jobs():
        checks_out = [step for step in job["steps"] if "checkout@" in step.get("uses", "")]
        assert all(step["with"]["persist-credentials"] is False for step in checks_out), name
        if "write" in job.get("permissions", {}).values():
            assert not checks_out, name
            assert OWN_BRANCH in job["if"], name


def test_only_the_job_that_reads_the_state_gets_secrets_and_never_for_a_fork() -> None:
    with_secrets = {name: job for name, job in jobs() if "secrets." in yaml.safe_dump(job)}
    assert set(with_secrets) == {"preview/running", "deploy/deploy"}
    job = with_secrets["preview/running"]
    assert OWN_BRANCH in job["if"]
    assert "vars.PULUMI_BACKEND_URL != ''" in job["if"]
    assert job["permissions"] == {"contents": "read"}
    assert (job["environment"], job["needs"]) == ("preview", "reviewers")


@pytest.mark.parametrize(
    ("answer", "status", "refused"),
    [("branch_policy\nrequired_reviewers\n", 0, False), ("branch_policy\n", 0, True), ("", 0, True), ("", 1, True)],
    ids=["reviewers", "another rule", "no rule", "no environment"],
)
def test_secrets_need_an_environment_with_reviewers(tmp_path: Path, answer: str, status: int, refused: bool) -> None:
    program(tmp_path, "gh", f'#!/bin/sh\nprintf "$ANSWER"\necho "$*" >calls\nexit {status}\n')
    job = workflow("preview.yml")["jobs"]["reviewers"]
    assert job["if"] == workflow("preview.yml")["jobs"]["running"]["if"]
    text = step(job, "refuse an environment without reviewers")["run"]
    done = run(text, tmp_path, ANSWER=answer, GITHUB_REPOSITORY="o/r")
    assert (tmp_path / "calls").read_text() == "api repos/o/r/environments/preview --jq .protection_rules[].type\n"
    assert (done.returncode != 0) == refused
    assert ("::error::The environment 'preview' has no required reviewers" in done.stdout) == refused


def test_only_the_default_branch_is_deployed_one_run_at_a_time() -> None:
    deploy = workflow("deploy.yml")
    job = deploy["jobs"]["deploy"]
    assert deploy["concurrency"] == {"group": "deploy", "cancel-in-progress": False}
    assert "github.ref == format('refs/heads/{0}', github.event.repository.default_branch)" in job["if"]
    assert (job["environment"], job["permissions"]) == ("deploy", {"contents": "read"})


SSH_ADD = '#!/bin/sh\ncat >"$HOME/added"\n'
SSH_AGENT = "#!/bin/sh\necho 'SSH_AUTH_SOCK=/tmp/agent; export SSH_AUTH_SOCK; SSH_AGENT_PID=7; export SSH_AGENT_PID;'\n"


def start_agent(folder: Path, known_hosts: str) -> subprocess.CompletedProcess[str]:
    program(folder, "ssh-add", SSH_ADD)
    program(folder, "ssh-agent", SSH_AGENT)
    text = step(workflow("deploy.yml")["jobs"]["deploy"], "start an agent with the key")["run"]
    variables = {"SSH_KEY": "the key", "SSH_KNOWN_HOSTS": known_hosts, "GITHUB_ENV": str(folder / "exported")}
    return run(text, folder, HOME=str(folder), **variables)


def test_a_deployment_keeps_its_key_in_an_agent_and_knows_its_hosts(tmp_path: Path) -> None:
    assert start_agent(tmp_path, "web-1 ssh-ed25519 AAAA").returncode == 0
    assert (tmp_path / "added").read_text() == "the key\n"
    assert (tmp_path / ".ssh/known_hosts").read_text() == "web-1 ssh-ed25519 AAAA\n"
    assert (tmp_path / "exported").read_text() == "SSH_AUTH_SOCK=/tmp/agent\nSSH_AGENT_PID=7\n"
    (tmp_path / "added").unlink()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "the key" in path.read_text()]


def test_a_deployment_without_known_hosts_is_refused(tmp_path: Path) -> None:
    done = start_agent(tmp_path, "")
    assert done.returncode == 1
    assert "::error::The variable SSH_KNOWN_HOSTS is empty" in done.stdout
    assert not (tmp_path / "added").exists()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_drift_is_in_the_summary_and_fails_the_run(tmp_path: Path, status: int) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/setup").write_text("#!/bin/sh\n")
    (tmp_path / "tools/setup").chmod(0o755)
    (tmp_path / ".env").write_text("")
    program(tmp_path, "python", f"#!/bin/sh\necho '<b> $*'\nexit {status}\n")
    text = step(workflow("deploy.yml")["jobs"]["deploy"], "report drift")["run"]
    done = run(text, tmp_path, STACK="team", GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert done.returncode == status
    assert (tmp_path / "summary").read_text() == (
        f"**Status of stack team: exit status {status}**\n\n<pre>\n&lt;b> $*\n</pre>\n"
    )


def test_the_check_is_the_command_that_a_contributor_runs() -> None:
    assert workflow("check.yml")["jobs"]["check"]["steps"][-1] == {"run": "make check"}
    assert set(workflow("check.yml")[True]) == {"pull_request", "push"}


# --- steps ---


def run(text: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a step as GitHub does with `shell: bash`."""
    programs = folder / "programs"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, text: str) -> None:
    (folder / "programs").mkdir(exist_ok=True)
    (folder / "programs" / name).write_text(text)
    (folder / "programs" / name).chmod(0o755)


@pytest.mark.parametrize(
    ("known", "call"),
    [
        ("", "api --silent repos/o/r/issues/7/comments --field body=@comment.md"),
        ("41\n42\n", "api --silent --method PATCH repos/o/r/issues/comments/41 --field body=@comment.md"),
    ],
    ids=["new", "edited in place"],
)
def test_there_is_one_comment_with_a_hidden_marker(tmp_path: Path, known: str, call: str) -> None:
    program(tmp_path, "gh", GH)
    (tmp_path / "preview.md").write_text("**Nothing changes.**\n")
    calls = tmp_path / "calls"
    job = workflow("preview.yml")["jobs"]["comment"]
    done = run(
        step(job, "write or edit the comment")["run"],
        tmp_path,
        CALLS=str(calls),
        KNOWN=known,
        GITHUB_REPOSITORY="o/r",
        NUMBER="7",
    )
    assert done.returncode == 0, done.stderr
    [look, write] = calls.read_text().splitlines()
    assert look.startswith("api --paginate repos/o/r/issues/7/comments --jq .[] | select(.user.login == ")
    assert 'startswith("<!-- swarm-site preview -->")' in look
    assert write == call
    assert Path(f"{calls}.body").read_text() == "<!-- swarm-site preview -->\n**Nothing changes.**\n"


@pytest.mark.parametrize(
    ("printed", "status", "shown"),
    [
        ("**Nothing changes.**", 0, "**Nothing changes.**\n"),
        ("**Refused.**", 2, "**Refused.**\n"),
        ("", 2, "**No preview:** make pr-preview failed; see the log of this check.\n"),
    ],
    ids=["fine", "refused", "failed"],
)
def test_a_preview_is_in_the_summary_whether_or_not_it_succeeds(
    tmp_path: Path, printed: str, status: int, shown: str
) -> None:
    lines = ['echo "$*" >&2', f"printf '%s' '{printed}'", f"[ -z '{printed}' ] || echo", f"exit {status}"]
    program(tmp_path, "make", "\n".join(["#!/bin/sh", *lines]) + "\n")
    summary = tmp_path / "summary"
    text = step(workflow("preview.yml")["jobs"]["compare"], "preview both")["run"]
    done = run(text, tmp_path, GITHUB_STEP_SUMMARY=str(summary))
    assert (done.returncode, done.stderr) == (status, "pr-preview BASE=HEAD^1 HEAD=HEAD\n")
    assert summary.read_text() == (tmp_path / "preview.md").read_text() == shown


def test_a_preview_against_the_state_is_shown_without_markup(tmp_path: Path) -> None:
    program(tmp_path, "make", "#!/bin/sh\necho '</pre> & <b>'\nexit 3\n")
    summary = tmp_path / "summary"
    text = step(workflow("preview.yml")["jobs"]["running"], "preview against the state")["run"]
    done = run(text, tmp_path, GITHUB_STEP_SUMMARY=str(summary), STACK="blue")
    assert done.returncode == 3
    lines = summary.read_text().splitlines()
    assert lines[1] == "<summary>pulumi preview --diff, stack blue</summary>"
    assert lines[3:6] == ["<pre>", "&lt;/pre> &amp; &lt;b>", "</pre>"]
