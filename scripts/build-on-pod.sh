#!/usr/bin/env bash
# Builds one image on a rented server and pushes it. No GPU is needed, but disk: the weights twice, and 30 GB.
#
#   export DOCKERHUB_USERNAME=me
#   read -rs DOCKERHUB_TOKEN && export DOCKERHUB_TOKEN       (so that it stays out of the shell's history)
#   export MODEL_TYPE=sdxl IMAGE_TAG=me/worker-comfyui:1.0-sdxl
#   ./scripts/build-on-pod.sh
#
# HUGGINGFACE_ACCESS_TOKEN  for gated models, read the same way
# REGISTRY                  another registry than Docker Hub, such as ghcr.io (IMAGE_TAG begins with it)
# REPO_URL, BRANCH          what to clone, where the script does not lie in a checkout
# KEEP_CACHE=true           keeps the builder after success
#
# After a failure run it again: what was downloaded, built and pushed is not done twice.
set -euo pipefail

builder=worker-comfyui
MODEL_TYPE=${MODEL_TYPE:-flux1-dev-fp8}

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}

check_variables() {
  local name missing=()
  for name in DOCKERHUB_USERNAME DOCKERHUB_TOKEN IMAGE_TAG; do
    [[ -n ${!name:-} ]] || missing+=("$name")
  done
  ((${#missing[@]} == 0)) || fail "set ${missing[*]} (the head of this script shows how)"
  [[ $IMAGE_TAG =~ ^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] ||
    fail "IMAGE_TAG must be like me/worker-comfyui:1.0-sdxl, not $IMAGE_TAG"
}

check_docker() {
  command -v docker >/dev/null || fail "docker is missing. Install it: curl -fsSL https://get.docker.com | sh"
  docker info >/dev/null 2>&1 || fail "the Docker daemon does not answer. Start it: systemctl start docker"
  docker buildx version >/dev/null 2>&1 || fail "docker buildx is missing. On Debian and Ubuntu: apt-get install docker-buildx-plugin"
}

enter_checkout() {
  local folder
  folder=$(dirname "${BASH_SOURCE[0]:-.}")/..
  if [[ ! -f $folder/docker-bake.hcl ]]; then
    [[ -n ${REPO_URL:-} ]] || fail "run this from a checkout of the project, or set REPO_URL to clone"
    folder=$HOME/worker-comfyui-build
    rm -rf "$folder"
    git clone --quiet --depth 1 ${BRANCH:+--branch "$BRANCH"} -- "$REPO_URL" "$folder"
  fi
  cd "$folder"
}

# What the variant's list says, in bytes; a CUDA line of base has no models.
weights() {
  python3 - "$MODEL_TYPE" <<'PYTHON'
import json, sys
name = sys.argv[1]
variants = json.load(open("src/models/variants.json"))["variants"]
files = variants["base" if name.startswith("base-cuda") else name].get("files", [])
print(sum(f.get("bytes", f.get("bytes_about", 0)) for f in files))
print("gated" if any(f.get("gated") for f in files) else "open")
PYTHON
}

check_space() {
  local root free needed
  root=$(docker info --format '{{.DockerRootDir}}')
  needed=$(($1 * 2 / 1000000000 + 30))
  free=$(($(df -Pk "$root" | awk 'NR == 2 { print $4 }') / 1000000))
  ((free >= needed)) || fail "$MODEL_TYPE needs about $needed GB in $root, and $free GB are free"
  say "Disk: about $needed GB needed, $free GB free in $root"
}

check_variables
enter_checkout
command -v python3 >/dev/null || fail "python3 is missing. On Debian and Ubuntu: apt-get install python3"
found=$(weights 2>/dev/null) || fail "there is no MODEL_TYPE $MODEL_TYPE: src/models/variants.json has them all"
read -r -d '' bytes access <<<"$found" || true
if [[ $access == gated && -z ${HUGGINGFACE_ACCESS_TOKEN:-} ]]; then
  fail "$MODEL_TYPE has gated models: set HUGGINGFACE_ACCESS_TOKEN to a token that may read them"
fi
check_docker
check_space "$bytes"

# The login goes to a folder of its own, which is gone when the script ends, however it ends.
plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
export BUILDX_CONFIG=${BUILDX_CONFIG:-$HOME/.docker/buildx}
DOCKER_CONFIG=$(mktemp -d)
export DOCKER_CONFIG
trap 'rm -rf "$DOCKER_CONFIG"' EXIT
[[ ! -d $plugins ]] || ln -s "$plugins" "$DOCKER_CONFIG/cli-plugins"
docker login --username "$DOCKERHUB_USERNAME" --password-stdin ${REGISTRY:+"$REGISTRY"} <<<"$DOCKERHUB_TOKEN" >&2 ||
  fail "the registry refused the login: check DOCKERHUB_USERNAME and DOCKERHUB_TOKEN (it must be allowed to write)"

docker buildx inspect "$builder" >/dev/null 2>&1 ||
  docker buildx create --name "$builder" --driver docker-container >/dev/null
say "Building $MODEL_TYPE as $IMAGE_TAG, and pushing it; this takes from ten minutes to two hours."
start=$SECONDS
# No attestation: with one the tag would be an index with an entry for no platform.
BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker buildx bake --builder "$builder" --push \
  --set "$MODEL_TYPE.tags=$IMAGE_TAG" "$MODEL_TYPE" ||
  fail "the build or the push failed, as said above. Run this again: it goes on where it stopped"

size=$(docker buildx imagetools inspect --raw "$IMAGE_TAG" | tr ',{' '\n' | awk -F: '/"size"/ { sum += $2 } END { printf "%.1f", sum / 1e9 }')
[[ ${KEEP_CACHE:-} == true ]] || docker buildx rm "$builder" >/dev/null 2>&1 || true
say "Pushed $IMAGE_TAG: $size GB to download, $(((SECONDS - start) / 60)) min."
say "Next: make an endpoint with this image (docs/deployment.md), and delete this server."
