# Three images, one a target:
#   router     the router and llama.cpp, from a wheel (CPU)
#   vllm       … and vLLM
#   infinity   … and infinity
# docker-compose.yml builds `router` for its profile `cpu` and `vllm` for `gpu`. For vLLM or infinity without a GPU:
#   docker build --target vllm --build-arg DEVICE=--cpu --build-arg PIP_EXTRA_INDEX_URL=… .
# with the index that PyTorch's install page names for pip and CPU.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY router router
COPY launchers launchers
RUN python -m venv /opt/router \
    && /opt/router/bin/pip install --no-cache-dir --quiet '.[llamacpp,pull]'

# The tiny models of configs/docker.yaml, so that a first `docker compose up` has something to serve.
FROM python:3.12-slim AS models
WORKDIR /src
COPY pyproject.toml ./
COPY demo demo
RUN python -m venv /opt/maker \
    && /opt/maker/bin/pip install --no-cache-dir --quiet --upgrade 'pip>=25.1' \
    && /opt/maker/bin/pip install --no-cache-dir --quiet --group demo
RUN /opt/maker/bin/python -m demo /opt/demo --only gguf \
    && rm /opt/demo/chat-slow.gguf

FROM python:3.12-slim AS router
# llama.cpp computes with OpenMP, which the slim image lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# The folders that volumes are mounted on belong to the user: a new volume takes its owner from them.
RUN useradd --uid 10001 --user-group --create-home --home-dir /home/router router \
    && mkdir -p /config /models /opt/engines /var/lib/engine-router \
        /home/router/.cache/huggingface /home/router/.cache/modelscope /home/router/.cache/vllm \
    && chown -R 10001:10001 /home/router /var/lib/engine-router
COPY --from=build /opt/router /opt/router
COPY --from=models /opt/demo /opt/demo
COPY configs/docker.yaml /config/router.yaml
ENV PATH=/opt/router/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["router"]
CMD ["up", "-c", "/config/router.yaml"]

FROM router AS vllm
ARG DEVICE=""
ARG PIP_EXTRA_INDEX_URL
USER root
# vLLM compiles kernels when it starts, and reads how memory lies from libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
RUN router install --dir /opt/engines vllm $DEVICE
USER 10001:10001

FROM router AS infinity
ARG DEVICE=""
ARG PIP_EXTRA_INDEX_URL
USER root
RUN router install --dir /opt/engines infinity $DEVICE
USER 10001:10001

# What `docker build .` makes without a target.
FROM router
