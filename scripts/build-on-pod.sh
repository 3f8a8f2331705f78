#!/usr/bin/env bash
# Builds one image on a rented server and pushes it. No GPU is needed, but disk: the weights three times, and 15 GB.
#
#   export DOCKERHUB_USERNAME=me
#   read -rs DOCKERHUB_TOKEN && export DOCKERHUB_TOKEN       (so that it stays out of the shell's history)
#   export MODEL_TYPE=sdxl IMAGE_TAG=me/worker-comfyui:1.0-sdxl
#   curl -fsSL https://raw.githubusercontent.com/me/worker-comfyui/main/scripts/build-on-pod.sh | bash
#
# Or ./scripts/build-on-pod.sh in a checkout. What it needs and lacks (git, Docker), it installs on Debian and Ubuntu.
#
# HUGGINGFACE_ACCESS_TOKEN  for gated models, read the same way
# REGISTRY                  another registry than Docker Hub, such as ghcr.io (IMAGE_TAG begins with it)
# REPO_URL, BRANCH          what to clone, where the script does not lie in a checkout
# BUILDER                   a builder of yours instead of a new one
# ATTESTATIONS=false        without provenance and the list of packages (SBOM)
# KEEP_CACHE=true           keeps the builder after success
#
# After a failure that passes, run it again: what was downloaded, built and pushed is not done twice.
set -euo pipefail

# In a fork: the address of the fork.
REPO_URL=${REPO_URL:-https://github.com/me/worker-comfyui}

MODEL_TYPE=${MODEL_TYPE:-flux1-dev-fp8}
builder=${BUILDER:-worker-comfyui}

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
  # NVIDIA's and Python's own images set these to three numbers, meaning themselves.
  [[ ${CUDA_VERSION:-} =~ ^[0-9]+\.[0-9]+$ ]] || unset CUDA_VERSION
  [[ ${PYTHON_VERSION:-} =~ ^3\.[0-9]+$ ]] || unset PYTHON_VERSION
}

install_missing() {
  local packages=()
  command -v git >/dev/null || packages+=(git)
  command -v python3 >/dev/null || packages+=(python3)
  command -v docker >/dev/null || packages+=(docker.io)
  [[ -n $(command -v docker) ]] && docker buildx version >/dev/null 2>&1 || packages+=(docker-buildx)
  ((${#packages[@]} > 0)) || return 0
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    fail "install ${packages[*]} first (as root on Debian and Ubuntu, this script does)"
  fi
  say "Installing ${packages[*]} ..."
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${packages[@]}"; } >&2; then
    fail "apt-get could not install ${packages[*]}, as said above"
  fi
}

check_docker() {
  docker info >/dev/null 2>&1 || systemctl start docker >/dev/null 2>&1 || service docker start >/dev/null 2>&1 || true
  docker info >/dev/null 2>&1 ||
    fail "the Docker daemon does not answer. Start it: systemctl start docker (in a container, such as a RunPod pod, it cannot run: take a virtual machine)"
}

enter_checkout() {
  local folder
  folder=$(dirname "${BASH_SOURCE[0]:-.}")/..
  if [[ ! -f $folder/docker-bake.hcl ]]; then
    folder=$HOME/worker-comfyui-build
    rm -rf "$folder"
    git clone --quiet --depth 1 ${BRANCH:+--branch "$BRANCH"} -- "$REPO_URL" "$folder" ||
      fail "cannot clone REPO_URL $REPO_URL"
  fi
  cd "$folder"
}

# What the lists say of MODEL_TYPE: bytes, and whether a token is needed; or, where there is no such thing, all names.
facts() {
  python3 - "$MODEL_TYPE" <<'PYTHON'
import json, re, sys
name = sys.argv[1]
variants = json.load(open("src/models/variants.json"))["variants"]
[cuda] = re.findall(r"matrix += \{ cuda = (\[.*?\]) \}", open("docker-bake.hcl").read())
lines = ["base-cuda" + line.replace(".", "-") for line in json.loads(cuda)]
if name not in [*variants, *lines]:
    print(", ".join([*variants, *lines]))
    sys.exit(1)
files = variants.get(name, {}).get("files", [])
print(sum(f.get("bytes", f.get("bytes_about", 0)) for f in files))
print("gated" if any(f.get("gated") for f in files) else "open")
PYTHON
}

# The weights lie in the stage that downloads them, in the image's layer, and in what is pushed.
check_space() {
  local root free needed
  root=$(docker info --format '{{.DockerRootDir}}')
  needed=$(($1 * 3 / 1000000000 + 15))
  if ! free=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { printf "%d", $4 * 1024 / 1e9 }') || [[ -z $free ]]; then
    say "Disk: about $needed GB needed; the Docker daemon's disk cannot be seen from here"
    return
  fi
  ((free >= needed)) || fail "$MODEL_TYPE needs about $needed GB in $root, and $free GB are free"
  say "Disk: about $needed GB needed, $free GB free in $root"
}

# Prints all that bake prints, and keeps it to tell what kind of failure it was.
bake() {
  docker buildx bake --builder "$builder" --progress plain "$@" 2>&1 | tee -a "$log" >&2
}

# What bake says at the end, of the step that failed: before that the log has what was tried again. Without the step's own
# command, in which a timeout may be named, and without the seconds before each line, which may look like a status.
why() {
  { sed -n '/^------$/,$p' "$log" | grep . || cat "$log"; } |
    grep -vE '^ > \[|^ +[0-9]+ \||did not complete successfully' | sed -E 's/^[0-9.]+ //' || true
}

explain() {
  local said
  said=$(why)
  if grep -qE 'access .*denied|denied: |[Uu]nauthorized|403 Forbidden|insufficient_scope|no basic auth' <<<"$said"; then
    fail "the registry refused the push, as said above: may $DOCKERHUB_USERNAME write to $IMAGE_TAG, and does the repository exist?"
  elif grep -q 'no space left on device' <<<"$said"; then
    fail "the disk is full"
  elif grep -qE ' (429|500|502|503|504)( [^kMG]|[^0-9. ]|$)|[Tt]imeout|timed out|deadline exceeded|[Cc]onnection (reset|refused|broken)|unexpected EOF|no such host|name resolution|TLS handshake' <<<"$said"; then
    fail "the build or the push failed, as said above, for a reason that may pass. Run this again: it goes on where it stopped"
  fi
  fail "the build failed, as said above; run this again once that is corrected"
}

# What a tag is to download. With attestations it is an index: of the image, and of what says how it was made.
gigabytes() {
  local raw digest
  raw=$(docker buildx imagetools inspect --raw "$1")
  digest=$(python3 -c '
import json, sys
print(next((m["digest"] for m in json.load(sys.stdin).get("manifests", []) if m["platform"]["os"] == "linux"), ""))' <<<"$raw")
  [[ -z $digest ]] || raw=$(docker buildx imagetools inspect --raw "${1%:*}@$digest")
  python3 -c '
import json, sys
print("%.1f" % (sum(layer["size"] for layer in json.load(sys.stdin)["layers"]) / 1e9))' <<<"$raw"
}

main() {
  check_variables
  install_missing
  enter_checkout
  local bytes access found
  found=$(facts) || fail "there is no MODEL_TYPE $MODEL_TYPE; there are: $found"
  read -r -d '' bytes access <<<"$found" || true
  if [[ $access == gated && -z ${HUGGINGFACE_ACCESS_TOKEN:-} ]]; then
    fail "$MODEL_TYPE has gated models: set HUGGINGFACE_ACCESS_TOKEN to a token that may read them"
  fi
  check_docker
  check_space "$bytes"

  # The login goes to a folder of its own, which is gone when the script ends, however it ends.
  local plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
  export BUILDX_CONFIG=${BUILDX_CONFIG:-$HOME/.docker/buildx}
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  trap 'rm -rf "$DOCKER_CONFIG"' EXIT
  log=$DOCKER_CONFIG/build.log
  [[ ! -d $plugins ]] || ln -s "$plugins" "$DOCKER_CONFIG/cli-plugins"
  docker login --username "$DOCKERHUB_USERNAME" --password-stdin ${REGISTRY:+"$REGISTRY"} <<<"$DOCKERHUB_TOKEN" >&2 ||
    fail "the registry refused the login: check DOCKERHUB_USERNAME and DOCKERHUB_TOKEN (it must be allowed to write)"

  [[ -n ${BUILDER:-} ]] || docker buildx inspect "$builder" >/dev/null 2>&1 ||
    docker buildx create --name "$builder" --driver docker-container >/dev/null
  REVISION=$(git rev-parse HEAD 2>/dev/null || true)
  export REVISION REPOSITORY_URL=$REPO_URL
  local start=$SECONDS output=type=registry attestations=(--provenance=mode=max --sbom=true)
  [[ ${ATTESTATIONS:-} != false ]] || attestations=(--provenance=false --sbom=false)
  say "Building $MODEL_TYPE as $IMAGE_TAG, and pushing it; this takes from ten minutes to two hours."
  if ((bytes > 0)); then
    # Weights do not get smaller by compression, only slower. What lies below them does: it is compressed first, and
    # stays so.
    bake --set base.output=type=image,push=false base || explain
    output+=,compression=gzip,compression-level=0
  fi
  bake --set "$MODEL_TYPE.output=$output" --set "$MODEL_TYPE.tags=$IMAGE_TAG" "${attestations[@]}" "$MODEL_TYPE" || explain

  # It is pushed: that its size cannot be read is no failure any more.
  local size
  size="$(gigabytes "$IMAGE_TAG" 2>/dev/null) GB to download, " || size=""
  [[ ${KEEP_CACHE:-} == true || -n ${BUILDER:-} ]] || docker buildx rm "$builder" >/dev/null 2>&1 || true
  say "Pushed $IMAGE_TAG: $size$(((SECONDS - start) / 60)) min."
  say "Next: make an endpoint with this image (docs/deployment.md), and delete this server."
}

main
