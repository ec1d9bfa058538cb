"""Who is measured: each peer knows how it is installed, configured and started, and says why it cannot be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import free_port
from bench.tools import debian, environment, output

KEY = "sk-bench-0123456789abcdef"
ENGINE_NAME = "real-model"
"""What the stub calls its only model; it answers 404 to any other name."""


@dataclass(frozen=True)
class Command:
    """How a peer is started."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """`install` returns its program or raises `Unavailable`; `version` asks that program.

    `command(program, folder, port, engine)`: how to start it, listening on `port` before the server at the port
    `engine`; its files go to `folder`. `asks` and `expects`: the model that clients name for chat and for embeddings,
    and the one that answers must name (several: any of them; none: any). `alone`: the process itself is measured,
    without its children. `replicas`: how many of its own have to be ready."""

    name: str
    install: Callable[[], Path]
    version: Callable[[Path], str]
    command: Callable[[Path, Path, int, int], Command]
    about: str
    asks: tuple[str, str] = (ENGINE_NAME, ENGINE_NAME)
    expects: tuple[str, str] = (ENGINE_NAME, ENGINE_NAME)
    key: str = ""
    alone: bool = False
    replicas: int = 0


NGINX = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 512k;
    upstream engine {{
        server 127.0.0.1:{engine};
        keepalive 1024;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def _nginx(program: Path, folder: Path, port: int, engine: int) -> Command:
    user = "user root;" if Path("/proc/self").stat().st_uid == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, engine=engine, user=user))
    return Command([str(program), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])


CADDY = """\
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{engine} {{
        flush_interval -1
        transport http {{
            keepalive_idle_conns_per_host 1024
        }}
    }}
}}
"""


def _caddy(program: Path, folder: Path, port: int, engine: int) -> Command:
    (folder / "Caddyfile").write_text(CADDY.format(folder=folder, port=port, engine=engine))
    argv = [str(program), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    return Command(argv, {"GOMAXPROCS": "1", "HOME": str(folder), "XDG_DATA_HOME": str(folder)})


def _rust_router(program: Path, _: Path, port: int, engine: int) -> Command:
    argv = [str(program), *(["launch"] if program.name == "smg" else [])]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{engine}"]
    level = "warn" if program.name == "smg" else "warning"  # their default, info, costs them more
    argv += ["--policy", "round_robin", "--log-level", level]
    return Command([*argv, "--prometheus-port", str(free_port())])


LITELLM = """\
model_list:
  - model_name: qwen
    litellm_params: {{model: openai/real-model, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
  - model_name: embed
    litellm_params: {{model: openai/real-model, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
general_settings:
  master_key: {key}
"""


def _litellm(program: Path, folder: Path, port: int, engine: int) -> Command:
    (folder / "config.yaml").write_text(LITELLM.format(engine=engine, key=KEY))
    argv = [str(program), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    return Command(argv, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"})


def pip_version(distribution: str) -> Callable[[Path], str]:
    ask = f"from importlib.metadata import version; print(version('{distribution}'))"
    return lambda program: output(str(program.parent / "python"), "-c", ask)


def in_environment(name: str, requirement: str, program: str) -> Callable[[], Path]:
    return lambda: environment(name, requirement) / program


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            name="nginx",
            install=lambda: debian("nginx", "nginx"),
            version=lambda program: output(str(program), "-v").rpartition("/")[2],
            command=_nginx,
            about="one worker, kept connections, buffers neither bodies nor answers, access log to a file; no keys, "
            "does not know models",
        ),
        Peer(
            name="caddy",
            install=lambda: debian("caddy", "caddy"),
            version=lambda program: output(str(program), "version").split()[0],
            command=_caddy,
            about="`reverse_proxy` with `flush_interval -1`, no access log, its default; no keys, does not know models",
        ),
        Peer(
            name="vllm-router",
            install=in_environment("vllm-router", "vllm-router==0.1.17", "vllm-router"),
            version=pip_version("vllm-router"),
            command=_rust_router,
            about="Rust; one worker, `--policy round_robin`, its cheapest; logs warnings alone, usual metrics; "
            "no keys, does not rewrite `model`",
        ),
        Peer(
            name="sglang-router",
            install=in_environment("sglang-router", "sglang-router==0.3.2", "smg"),
            version=pip_version("sglang-router"),
            command=_rust_router,
            about="Rust; as vllm-router",
        ),
        Peer(
            name="litellm",
            install=in_environment("litellm", "litellm[proxy]==1.106.2", "litellm"),
            version=pip_version("litellm"),
            command=_litellm,
            about="one worker, a master key, no database; rewrites `model` both ways",
            asks=("qwen", "embed"),
            expects=("", ""),
            key=KEY,
        ),
    )
}
