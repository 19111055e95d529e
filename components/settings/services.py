"""Sections for served content: content, applications and proxies."""

from pydantic import Field

from components.settings.types import (
    CacheControl,
    Charset,
    HostName,
    Network,
    NginxSize,
    Section,
)


class ContentSettings(Section):
    """The files that are served."""

    folder: str = Field(
        "site",
        min_length=1,
        description="Folder of the content: below the project, or anywhere if named from `/`.",
        examples=["site"],
    )
    keep: int = Field(3, ge=1, le=50, description="Number of earlier releases to keep on each node.", examples=[3])
    cache_control: CacheControl = Field(
        "no-cache",
        description="How long browsers and caches may use a file without asking (`Cache-Control`). `no-cache`: they "
        "ask each time, and get a short 304 if it is unchanged.",
        examples=["public, max-age=300"],
    )
    cache_control_hashed: CacheControl = Field(
        "public, max-age=31536000, immutable",
        description="The same for files whose name contains a hash of their content, such as `app.0a1b2c3d.js`.",
        examples=["no-cache"],
    )
    charset: Charset = Field(
        "utf-8",
        description="Character encoding that is declared for text files; `off` leaves it to the files themselves.",
        examples=["iso-8859-1"],
    )


class BackendSettings(Section):
    """The built-in application, which serves the content to all visitors."""

    replicas: int = Field(
        2,
        ge=1,
        le=200,
        description="Number of tasks; at most one per node.",
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
        examples=[2],
    )
    port: int = Field(8080, ge=1, le=65535, description="Port of each task on its node.", examples=[8080])
    memory: int = Field(
        64,
        ge=16,
        le=65536,
        description="Memory limit of each task in MB. It also limits connections, compressions and workers.",
        examples=[64],
        json_schema_extra={"computed_default": "64 a worker: a CPU, at most 8, or 4 on existing hosts"},
    )
    read_timeout_s: int = Field(
        2,
        ge=1,
        le=3600,
        description="Longest wait for the beginning of a response, and longest pause in one, in s; after that, proxies "
        "ask the next endpoint for it, unless it has begun or the request could have had an effect.",
        json_schema_extra={"computed_default": "2, or 10 on virtual machines, which may be emulated"},
        examples=[2],
    )


class ApplicationSettings(BackendSettings):
    """A further application that serves the content on its own port."""

    port: int = Field(ge=1, le=65535, description="Port of each task on its node.", examples=[8081])
    hosts: list[HostName] = Field(
        default_factory=list,
        description="Host names that the proxies route to it. Without any, it is reachable on its own port only.",
        examples=[["docs.example"]],
    )


class ProxySettings(Section):
    """The service that receives visitors."""

    replicas: int = Field(
        2,
        ge=1,
        le=200,
        description="Number of proxies; one per node.",
        examples=[2],
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
    )
    port: int = Field(80, ge=1, le=65535, description="Port of each proxy on its node.", examples=[80])
    memory: int = Field(
        128,
        ge=16,
        le=65536,
        description="Memory limit of each proxy in MB. It also limits connections, requests at once and workers.",
        examples=[128],
        json_schema_extra={"computed_default": "128 a worker: a CPU, at most 8, or 4 on existing hosts"},
    )
    max_body_size: NginxSize = Field(
        "0", description="Largest request body (nginx `client_max_body_size`); 0 means no limit.", examples=["0"]
    )
    connect_timeout_ms: int = Field(
        500, ge=50, le=60000, description="Longest wait for a connection to an application, in ms.", examples=[500]
    )
    fail_timeout_s: int = Field(
        30,
        ge=1,
        le=600,
        description="How long an endpoint is skipped after it failed, in s, as long as another one answers.",
        examples=[30],
    )
    trusted_networks: list[Network] = Field(
        default_factory=list,
        description="Networks of load balancers in front. From these, `X-Forwarded-*` is believed, and the visitor's "
        "address is taken from `X-Forwarded-For`; from anywhere else it is replaced.",
        examples=[["203.0.113.0/24"]],
    )
