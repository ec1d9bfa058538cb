"""SGLang's other server (`sglang serve --model-type diffusion`): images and video. It knows few of SGLang's options."""

from collections.abc import Mapping

import msgspec

from launchers import adapters, devices
from launchers.base import Command, KeepAlive, Kind, Launch, Probe, Refusal
from launchers.flags import value
from launchers.kinds import same
from launchers.sglang_options import SglangOptions

PATHS: Mapping[Kind, Mapping[str, str]] = {
    "image": same("/v1/images/generations", "/v1/images/edits", "/v1/images/{id}/content"),
    "video": same("/v1/videos", "/v1/videos/{id}", "/v1/videos/{id}/content"),
}
_TAKES = {"tensor_parallel_size", "data_parallel_size", "attention_backend", "quantization", "revision"}
_TAKES |= {"trust_remote_code"}
# 503 until the first picture of its own is drawn.
_HEALTH = Probe("/health")


def command(launch: Launch) -> Command:
    """It knows no API key, so that other users of the machine can reach it."""
    _refuse_what_it_lacks(launch)
    argv = (*launch.program.argv, "serve", "--model-type", "diffusion", *_flags(launch), *launch.args)
    return Command(
        argv=argv,
        env=_env(launch),
        scrub=("SGLANG_USE_MODELSCOPE", "PYTHONHOME", "PYTHONPATH"),
        readiness=_HEALTH,
        liveness=_HEALTH,
        served=launch.name,
        paths=PATHS[launch.kind],
        keep_alive=KeepAlive(idle=4),
    )


def _env(launch: Launch) -> dict[str, str]:
    modelscope = {"SGLANG_USE_MODELSCOPE": "true"} if launch.source.where == "modelscope" else {}
    return {**devices.visible(launch.gpus, launch.accelerator), **modelscope}


def _flags(launch: Launch) -> list[str]:
    options: SglangOptions = launch.options
    return [
        *("--model-path", launch.source.value, "--served-model-name", launch.name),
        *("--host", launch.host, "--port", str(launch.port)),
        *value("--num-gpus", len(launch.gpus) if launch.gpus else None),
        *value("--tp-size", options.tensor_parallel_size),
        *value("--data-parallel-size", options.data_parallel_size),
        *value("--attention-backend", options.attention_backend),
        *value("--quantization", options.quantization),
        *value("--revision", options.revision),
        *(["--trust-remote-code"] if options.trust_remote_code else []),
    ]


def _refuse_what_it_lacks(launch: Launch) -> None:
    adapters.refuse(launch, "SGLang's diffusion server", "remove `lora`, or name one with `args: [--lora-path, …]`")
    for field in msgspec.structs.fields(launch.options):
        if field.name not in _TAKES and getattr(launch.options, field.name) != field.default:
            remedy = "remove it; flags of the diffusion server go into `args`"
            raise Refusal(f"options.{field.name}", f"SGLang has no such setting for the kind {launch.kind}", remedy)
