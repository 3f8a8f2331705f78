# The images. docker-bake.hcl names them all; docs/deployment.md says which to take.
#
#   docker build --target base -t worker-comfyui:base .
#   docker build --build-arg MODEL_TYPE=sdxl -t worker-comfyui:sdxl .
#
#   system ─ comfyui ┬───────────────────────── base     ComfyUI and the worker, no models
#      │             └ custom-nodes ─ weights ─ final    and those of MODEL_TYPE
#      ├ worker-packages, worker ──────────────┘
#      └ plan, fetch ─ file-1 … file-6 ┘
#
# The worker lies on top: changing it leaves every layer below, the weights above all, as it is.

ARG BASE_IMAGE=ubuntu:24.04
ARG MODEL_TYPE=flux1-dev-fp8

# ComfyUI's source. Your own checkout instead: --build-context comfyui-source=../ComfyUI
FROM scratch AS comfyui-source
ARG COMFYUI_REPOSITORY=https://github.com/Comfy-Org/ComfyUI.git
ARG COMFYUI_COMMIT=daeb5e53681e2b10a3f0727d9ec5bc90784bee10
# hadolint ignore=DL3020
ADD ${COMFYUI_REPOSITORY}#${COMFYUI_COMMIT} /

# Wheels to look at besides the package index. None, unless: --build-context wheels=FOLDER
FROM scratch AS wheels
WORKDIR /

FROM ${BASE_IMAGE} AS system
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG PYTHON_VERSION=3.12
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# libgl1 and libglib2.0-0: what OpenCV loads, which many custom nodes import.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates git libgl1 libglib2.0-0 "python${PYTHON_VERSION}-venv" tini \
 && rm -rf /var/lib/apt/lists/*

# ---- ComfyUI in its virtual environment

FROM system AS comfyui
ARG CUDA_VERSION=12.8
ARG PYTORCH="torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0"
ARG PYTORCH_INDEX
ENV PATH=/opt/comfyui/bin:$PATH VIRTUAL_ENV=/opt/comfyui
# Any later pip install, a custom node's too, keeps this PyTorch.
ENV PIP_CONSTRAINT=/opt/comfyui/pytorch.txt
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    "python${PYTHON_VERSION}" -m venv /opt/comfyui \
 && printf '%s\n' ${PYTORCH} >/opt/comfyui/pytorch.txt \
 && pip install --find-links /wheels \
      --index-url "${PYTORCH_INDEX:-https://download.pytorch.org/whl/cu${CUDA_VERSION%.*}${CUDA_VERSION#*.}}" -r /opt/comfyui/pytorch.txt

RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=src/comfyui/requirements.txt,target=/requirements.txt \
    pip install --no-deps --require-hashes -r /requirements.txt

# The last pip install is for what this ComfyUI wants otherwise than the lock: nothing, as a rule.
ARG COMFYUI_VERSION=0.38.2
COPY --from=comfyui-source / /comfyui
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -qF "\"${COMFYUI_VERSION#v}\"" /comfyui/comfyui_version.py \
      || { cat /comfyui/comfyui_version.py; echo "That is not COMFYUI_VERSION ${COMFYUI_VERSION}: set it together with COMFYUI_COMMIT."; exit 1; } >&2 \
 && pip install -r /comfyui/requirements.txt \
 && python -m compileall -q -j 0 /comfyui \
 && mkdir -p /tmp/check/custom_nodes \
 && timeout 300 python /comfyui/main.py --cpu --quick-test-for-ci --base-directory /tmp/check \
      --database-url sqlite:///:memory: \
 && rm -r /tmp/check

COPY src/node_packs /opt/node-packs/node_packs
COPY scripts/comfy-node-install scripts/restore-snapshot /usr/local/bin/

# PIP_NO_CACHE_DIR: what a derived image installs would otherwise lie in its layer twice.
ENV COMFYUI_PATH=/comfyui COMFYUI_PYTHON=/opt/comfyui/bin/python PIP_NO_CACHE_DIR=1
# Where the driver is too old for this CUDA the container does not start, rather than fail later.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    NVIDIA_REQUIRE_CUDA=cuda>=${CUDA_VERSION} RUNPOD_MIN_CUDA_VERSION=${CUDA_VERSION}
WORKDIR /worker
EXPOSE 8000
# tini passes SIGTERM on to the worker, from its first moment, and reaps what ComfyUI leaves behind.
ENTRYPOINT ["tini", "--"]
CMD ["/worker/src/start.sh"]

# ---- the worker in its own virtual environment, without PyTorch

FROM system AS worker-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \
    "python${PYTHON_VERSION}" -m venv /opt/worker \
 && /opt/worker/bin/pip install --no-deps --require-hashes -r /requirements.txt

FROM system AS worker
COPY handler.py test_input.json /files/worker/
COPY docs/openapi.json /files/worker/docs/
COPY src/start.sh /files/worker/src/
COPY src/worker_comfyui /files/worker/src/worker_comfyui
COPY src/local_comfyui /files/worker/src/local_comfyui
COPY src/local_runpod /files/worker/src/local_runpod
COPY src/extra_model_paths.yaml /files/worker/src/
COPY src/models/variants.json /files/worker/src/models/
RUN "python${PYTHON_VERSION}" -m compileall -q -s /files -p / /files

# ---- the variant: its custom nodes, and its weights, one stage and so one layer for each file

FROM system AS plan
ARG MODEL_TYPE
COPY src/models/__init__.py src/models/variants.py src/models/variants.json /src/models/
RUN PYTHONPATH=/src "python${PYTHON_VERSION}" -m models.variants "${MODEL_TYPE}" /plan

FROM system AS fetch
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=src/models/requirements.txt,target=/requirements.txt \
    "python${PYTHON_VERSION}" -m venv /opt/fetch \
 && /opt/fetch/bin/pip install --no-deps --require-hashes -r /requirements.txt
COPY src/models/*.py /src/models/
ARG HF_ENDPOINT=https://huggingface.co
ENV PATH=/opt/fetch/bin:$PATH PYTHONPATH=/src HF_ENDPOINT=${HF_ENDPOINT}

FROM fetch AS file-1
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/1,target=/plan python -m models.fetch_for_image
FROM fetch AS file-2
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/2,target=/plan python -m models.fetch_for_image
FROM fetch AS file-3
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/3,target=/plan python -m models.fetch_for_image
FROM fetch AS file-4
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/4,target=/plan python -m models.fetch_for_image
FROM fetch AS file-5
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/5,target=/plan python -m models.fetch_for_image
FROM fetch AS file-6
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/6,target=/plan python -m models.fetch_for_image

FROM comfyui AS custom-nodes
RUN --mount=type=bind,from=plan,source=/plan/nodes,target=/plan \
    if [ -e /plan/snapshot.json ]; then \
      restore-snapshot /plan/snapshot.json --packages --expect /plan/node_classes.txt; \
    fi

FROM custom-nodes AS weights
COPY --link --from=file-1 /models /comfyui/models
COPY --link --from=file-2 /models /comfyui/models
COPY --link --from=file-3 /models /comfyui/models
COPY --link --from=file-4 /models /comfyui/models
COPY --link --from=file-5 /models /comfyui/models
COPY --link --from=file-6 /models /comfyui/models

# ---- the images

FROM comfyui AS base
COPY --link --from=worker-packages /opt/worker /opt/worker
COPY --link --from=worker /files /

FROM weights AS final
COPY --link --from=worker-packages /opt/worker /opt/worker
COPY --link --from=worker /files /
