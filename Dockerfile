# The images. docker-bake.hcl names them all; docs/deployment.md says which to take.
#
#   docker build --target base -t worker-comfyui:base .
#   docker build --build-arg MODEL_TYPE=sdxl -t worker-comfyui:sdxl .
#
#   python ┬ system ─ comfyui ┬────────────────────────── base      ComfyUI and the worker, no models
#          │                  └ custom-nodes ─ weights ── final     and those of MODEL_TYPE
#          ├ comfy-cli ┘                          │
#          ├ plan, fetch ─ file-1 … file-6 ───────┘
#          └ pip ─ worker-packages, worker ────────────── stand-in  the worker and local_comfyui: no GPU, no ComfyUI
#
# The worker lies on top: changing it leaves every layer below, the weights above all, as it is.

ARG BASE_IMAGE=ubuntu:24.04
ARG MODEL_TYPE=flux1-dev-fp8

# ComfyUI's source. Your own checkout instead: --build-context comfyui-source=../ComfyUI
FROM scratch AS comfyui-source
ARG COMFYUI_REPOSITORY=https://github.com/Comfy-Org/ComfyUI.git
ARG COMFYUI_COMMIT=b0b743566f65daafc423b4fea8a2fbda94b3384a
# hadolint ignore=DL3020
ADD ${COMFYUI_REPOSITORY}#${COMFYUI_COMMIT} /

# Wheels to look at besides the package index. None, unless: --build-context wheels=FOLDER
FROM scratch AS wheels
WORKDIR /

FROM ${BASE_IMAGE} AS python
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG PYTHON_VERSION=3.12
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# tini passes SIGTERM on to the worker, from its first moment, and reaps what ComfyUI leaves behind.
# Logs and caches hold the time of the build: without them the same build makes the same layer.
# unsafe-io: a layer needs no sync for each package, which takes minutes on a slow disk.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
      ca-certificates "python${PYTHON_VERSION}-venv" tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log /var/cache/ldconfig/aux-cache

# One pip for the environments that need none of their own.
FROM python AS pip
RUN "python${PYTHON_VERSION}" -m venv /opt/pip

FROM python AS system
# libgl1 and libglib2.0-0: what OpenCV loads, which many custom nodes import. libegl1: OpenGL without a display.
# g++ and Python's headers: Triton and Inductor compile with them, for torch.compile (ComfyUI's TorchCompileModel) and many packs.
# openssh-server: only runs where PUBLIC_KEY is set. Its keys are each container's own, never the image's.
# What is not unpacked: texts for people, a tool to look into objects of the linker, Python as a static library.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
      -o Dpkg::Options::=--path-exclude='/usr/share/doc/*' -o Dpkg::Options::=--path-include='/usr/share/doc/*/copyright' \
      -o Dpkg::Options::=--path-exclude='/usr/share/man/*' -o Dpkg::Options::=--path-exclude='/usr/share/locale/*' \
      -o Dpkg::Options::=--path-exclude='*-lto-dump-*' -o Dpkg::Options::=--path-exclude='*/libpython*.a' \
      curl ffmpeg g++ git libegl1 libgl1 libglib2.0-0 openssh-server "python${PYTHON_VERSION}-dev" wget \
 && rm -rf /etc/ssh/ssh_host_* /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log /var/cache/ldconfig/aux-cache

# ---- comfy-cli in its virtual environment, for derived images

FROM python AS comfy-cli
# Without bytecode: it runs when a derived image is built, never in a worker.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=bind,source=src/comfyui/cli.txt,target=/requirements.txt \
    "python${PYTHON_VERSION}" -m venv --without-pip /opt/comfy-cli \
 && /opt/pip/bin/pip --python /opt/comfy-cli/bin/python install --no-compile --no-deps --require-hashes -r /requirements.txt

# ---- ComfyUI in its virtual environment

FROM system AS comfyui
ARG SOURCE_DATE_EPOCH=1767225600
ARG CUDA_VERSION=13.0
# Other versions than those of src/comfyui/pytorch/CUDA_VERSION.txt, and from elsewhere.
ARG PYTORCH
ARG PYTORCH_INDEX
ENV PATH=/opt/comfyui/bin:$PATH VIRTUAL_ENV=/opt/comfyui
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=src/comfyui/pytorch,target=/lists --mount=type=bind,source=src/comfyui/trim.py,target=/trim.py \
    lines="${PYTORCH:-$(cat "/lists/${CUDA_VERSION}.txt")}" \
      || { echo "There is no src/comfyui/pytorch/${CUDA_VERSION}.txt: set PYTORCH for CUDA_VERSION ${CUDA_VERSION}."; exit 1; } >&2 \
 && "python${PYTHON_VERSION}" -m venv /opt/comfyui \
 && printf '%s\n' ${lines} >/opt/comfyui/requirements.txt \
 && pip install --find-links /wheels \
      --index-url "${PYTORCH_INDEX:-https://download.pytorch.org/whl/cu${CUDA_VERSION%.*}${CUDA_VERSION#*.}}" -r /opt/comfyui/requirements.txt \
 && pip uninstall --quiet --yes numpy pillow \
 && python /trim.py

RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=src/comfyui/requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=src/comfyui/without_gallery.py,target=/without_gallery.py \
    --mount=type=bind,source=src/comfyui/trim.py,target=/trim.py \
    pip install --no-deps --require-hashes -r /requirements.txt \
 && python /without_gallery.py \
 && python /trim.py

# What ComfyUI requires counts for all that is installed later, a custom node's packages too: as constraints, and
# comfy-node-install resolves with it. Not what is left out on purpose: src/comfyui/excluded.txt.
ENV PIP_CONSTRAINT=/opt/comfyui/requirements.txt UV_CONSTRAINT=/opt/comfyui/requirements.txt

# The last pip install is for what this ComfyUI wants otherwise than the lock: nothing, as a rule.
ARG COMFYUI_VERSION=0.39.0
COPY --from=comfyui-source / /comfyui
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -qF "\"${COMFYUI_VERSION#v}\"" /comfyui/comfyui_version.py \
      || { cat /comfyui/comfyui_version.py; echo "That is not COMFYUI_VERSION ${COMFYUI_VERSION}: set it together with COMFYUI_COMMIT."; exit 1; } >&2 \
 && grep -vE '^(torch|torchvision|comfyui-workflow-templates|comfyui-embedded-docs)\b' /comfyui/requirements.txt >>/opt/comfyui/requirements.txt \
 && pip install -r /opt/comfyui/requirements.txt \
 && python -m compileall -q -j 0 /comfyui \
 && mkdir -p /tmp/check/custom_nodes \
 && timeout 300 python /comfyui/main.py --cpu --quick-test-for-ci --base-directory /tmp/check \
      --database-url sqlite:///:memory: \
 && rm -rf /tmp/* \
 && mkdir -p /comfyui/input /comfyui/output /comfyui/temp /comfyui/user \
 && chmod 1777 /comfyui/input /comfyui/output /comfyui/temp /comfyui/user /comfyui/models

COPY --link --from=comfy-cli /opt/comfy-cli /opt/comfy-cli
COPY src/node_packs /opt/node-packs/node_packs
COPY scripts/comfy scripts/comfy-node-install scripts/restore-snapshot /usr/local/bin/
# uv comes with comfy-cli, and derived Dockerfiles call it.
RUN ln -s /opt/comfy-cli/bin/uv /usr/local/bin/uv

# PIP_NO_CACHE_DIR, UV_NO_CACHE: what a derived image installs would otherwise lie in its layer twice.
ENV COMFYUI_PATH=/comfyui COMFYUI_PYTHON=/opt/comfyui/bin/python PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
# Where the driver is too old for this CUDA the container does not start, rather than fail later.
# graphics: Vulkan and OpenGL, with which ComfyUI's GLSL nodes and many for 3D draw.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility,video \
    NVIDIA_REQUIRE_CUDA=cuda>=${CUDA_VERSION} RUNPOD_MIN_CUDA_VERSION=${CUDA_VERSION}
# Derived images run their commands as in any other image: they inherit this, and bash's strict options otherwise.
SHELL ["/bin/sh", "-c"]
WORKDIR /worker
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
CMD ["/start.sh"]

# ---- the worker in its own virtual environment, without PyTorch

FROM python AS worker-packages
ARG SOURCE_DATE_EPOCH=1767225600
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \
    "python${PYTHON_VERSION}" -m venv --without-pip /opt/worker \
 && /opt/pip/bin/pip --python /opt/worker/bin/python install --no-deps --require-hashes -r /requirements.txt

FROM python AS worker
ARG SOURCE_DATE_EPOCH=1767225600
COPY src/start.sh /files/start.sh
COPY handler.py test_input.json LICENSE THIRD-PARTY.md /files/worker/
COPY docs/openapi.json /files/worker/docs/
COPY src/worker_comfyui /files/worker/src/worker_comfyui
COPY src/local_comfyui /files/worker/src/local_comfyui
COPY src/local_runpod /files/worker/src/local_runpod
COPY src/extra_model_paths.yaml /files/worker/src/
COPY src/models/variants.json /files/worker/src/models/
RUN "python${PYTHON_VERSION}" -m compileall -q -s /files -p / /files

# ---- the variant: its custom nodes, and its weights, one stage and so one layer for each file

FROM python AS plan
ARG MODEL_TYPE
COPY src/models/__init__.py src/models/variants.py src/models/variants.json /src/models/
RUN PYTHONPATH=/src "python${PYTHON_VERSION}" -m models.variants "${MODEL_TYPE}" /plan

# What is downloaded lies in a cache of the builder's until it is whole: a later build goes on with it.
# The package's own __init__.py stays out: it has the version, and the weights do not change with it.
FROM python AS fetch
COPY src/worker_comfyui/models/__init__.py /src/worker_comfyui/models/
COPY src/worker_comfyui/models/transfer/*.py /src/worker_comfyui/models/transfer/
COPY src/models/*.py /src/models/
ARG HF_ENDPOINT=https://huggingface.co
ENV PYTHONPATH=/src HF_ENDPOINT=${HF_ENDPOINT}

FROM fetch AS file-1
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/1,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image
FROM fetch AS file-2
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/2,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image
FROM fetch AS file-3
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/3,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image
FROM fetch AS file-4
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/4,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image
FROM fetch AS file-5
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/5,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image
FROM fetch AS file-6
RUN --mount=type=secret,id=HF_TOKEN --mount=type=bind,from=plan,source=/plan/files/6,target=/plan --mount=type=cache,id=weights,target=/var/cache/models "python${PYTHON_VERSION}" -m models.fetch_for_image

FROM comfyui AS custom-nodes
RUN --mount=type=bind,from=plan,source=/plan/nodes,target=/plan \
    if [ -e /plan/snapshot.json ]; then \
      restore-snapshot /plan/snapshot.json --packages --expect /plan/node_classes.txt; \
    fi

FROM custom-nodes AS weights
COPY --link --from=file-1 /layer /
COPY --link --from=file-2 /layer /
COPY --link --from=file-3 /layer /
COPY --link --from=file-4 /layer /
COPY --link --from=file-5 /layer /
COPY --link --from=file-6 /layer /

# ---- the images

# Small, and without CUDA: for the API on any machine (docker compose --profile cpu).
FROM worker-packages AS stand-in-packages
ARG SOURCE_DATE_EPOCH=1767225600
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=bind,source=src/local_comfyui/requirements.txt,target=/requirements.txt \
    /opt/pip/bin/pip --python /opt/worker/bin/python install --no-deps --require-hashes -r /requirements.txt

FROM python AS stand-in
COPY --link --from=stand-in-packages /opt/worker /opt/worker
COPY --link --from=worker /files /
ENV SERVE_API_LOCALLY=true
WORKDIR /worker
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
CMD ["/start.sh"]

FROM comfyui AS base
COPY --link --from=worker-packages /opt/worker /opt/worker
COPY --link --from=worker /files /

FROM weights AS final
COPY --link --from=worker-packages /opt/worker /opt/worker
COPY --link --from=worker /files /
