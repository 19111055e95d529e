"""The Python language host: runs the project's program with the interpreter named in Pulumi.yaml.

The engine has it run the program once per preview or update, in a separate process (`program.py`) that talks to the
engine directly.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
from typing_extensions import override

from provider import Engine, PluginError, Processes, reported, serve

VERSION = "3.256.0"
# The program has already shown its error; the engine need not report another.
ERROR_WAS_SHOWN = 32
QUERY_SECONDS = 30
VERSION_QUERY = "import sys; print(sys.version.split()[0])"
PACKAGES_QUERY = (
    "import importlib.metadata as m, json;"
    "print(json.dumps(sorted((d.metadata['Name'], d.version) for d in m.distributions())))"
)


class Language(language_pb2_grpc.LanguageRuntimeServicer):
    """The engine's side of the language host."""

    def __init__(self, engine: Engine, processes: Processes) -> None:
        self.engine = engine
        self.processes = processes

    @override
    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    @override
    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        # None: the program's resources name their plugins, and both are installed.
        return language_pb2.GetRequiredPackagesResponse()

    @override
    def GetRequiredPlugins(
        self, request: language_pb2.GetRequiredPluginsRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPluginsResponse:
        return language_pb2.GetRequiredPluginsResponse()

    @override
    def RuntimeOptionsPrompts(
        self, request: language_pb2.RuntimeOptionsRequest, context: grpc.ServicerContext
    ) -> language_pb2.RuntimeOptionsResponse:
        return language_pb2.RuntimeOptionsResponse()

    @override
    def Template(
        self, request: language_pb2.TemplateRequest, context: grpc.ServicerContext
    ) -> language_pb2.TemplateResponse:
        return language_pb2.TemplateResponse()

    @override
    def InstallDependencies(
        self, request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        message = "this language host installs nothing; to create the environment, run: tools/setup engine"
        context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    @override
    def About(self, request: language_pb2.AboutRequest, context: grpc.ServicerContext) -> language_pb2.AboutResponse:
        with reported(context):
            python = interpreter(request.info)
            return language_pb2.AboutResponse(executable=str(python), version=query(python, VERSION_QUERY).strip())

    @override
    def GetProgramDependencies(
        self, request: language_pb2.GetProgramDependenciesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        with reported(context):
            packages = json.loads(query(interpreter(request.info), PACKAGES_QUERY))
            dependencies = [language_pb2.DependencyInfo(name=name, version=version) for name, version in packages]
            return language_pb2.GetProgramDependenciesResponse(dependencies=dependencies)

    @override
    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        with reported(context):
            python = interpreter(request.info)
            settings = {
                "monitor": request.monitor_address,
                "engine": self.engine.address,
                "organization": request.organization,
                "project": request.project,
                "stack": request.stack,
                "root_directory": request.info.root_directory,
                "parallel": request.parallel,
                "dry_run": request.dryRun,
            }
            environment = os.environ | {
                "PULUMI_CONFIG": json.dumps(dict(request.config)),
                "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
                "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "VIRTUAL_ENV": str(python.parent.parent),
            }
            environment.pop("PYTHONHOME", None)
            program = Path(request.info.program_directory) / request.info.entry_point
            runner = Path(__file__).with_name("program.py")
            process = self.processes.start(
                [str(python), "-u", str(runner), json.dumps(settings), str(program), *request.args],
                cwd=request.pwd,
                env=environment,
                stdin=subprocess.DEVNULL,
            )
            try:
                code = process.wait()
            finally:
                self.processes.done(process)
        if code == ERROR_WAS_SHOWN:
            return language_pb2.RunResponse(bail=True)
        if code:
            return language_pb2.RunResponse(error=f"Program exited with non-zero exit code: {code}")
        return language_pb2.RunResponse()

    @override
    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.processes.end_all()
        return empty_pb2.Empty()


def interpreter(info: language_pb2.ProgramInfo) -> Path:
    """Returns the Python of the project's `runtime.options.virtualenv`.

    Raises:
        PluginError: The option is missing, or names a folder without Python.
    """
    folder = dict(info.options.items()).get("virtualenv")
    if not folder:
        raise PluginError("Pulumi.yaml lacks 'runtime.options.virtualenv', which this language host requires")
    python = Path(info.root_directory, str(folder), "bin", "python")
    if not python.is_file():
        raise PluginError(
            f"'{python}', set by 'runtime.options.virtualenv' in Pulumi.yaml, does not exist; run: tools/setup engine"
        )
    return python


def query(python: Path, code: str) -> str:
    """Returns the output of a line of Python.

    Raises:
        PluginError: The interpreter does not work.
    """
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise PluginError(f"'{python}' does not work: {error}") from error
    return result.stdout


def register(server: grpc.Server, engine: Engine, processes: Processes) -> None:
    """Adds the language host to a server."""
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Language(engine, processes), server)


if __name__ == "__main__":
    serve(register)
