# Every image, one target each: docker buildx bake sdxl
#
#   DOCKERHUB_REPO=me RELEASE_VERSION=1.2.0 docker buildx bake sdxl --push
#   HUGGINGFACE_ACCESS_TOKEN=hf_... docker buildx bake flux1-dev
#   docker buildx bake --print everything
#
# Variables come from the environment. src/models/variants.json says what each variant holds.

# The image is DOCKERHUB_REPO/DOCKERHUB_IMG:RELEASE_VERSION-VARIANT.
variable "DOCKERHUB_REPO" { default = "local" }
variable "DOCKERHUB_IMG" { default = "worker-comfyui" }
variable "RELEASE_VERSION" { default = "dev" }

# For the image's labels: where its source is, and at which commit.
variable "REPOSITORY_URL" { default = "" }
variable "REVISION" { default = "" }

# The time of every file and layer, in seconds since 1970: the same build makes the same layers.
variable "SOURCE_DATE_EPOCH" { default = "1767225600" }

# Empty: as in the Dockerfile.
variable "BASE_IMAGE" { default = "" }
variable "PYTHON_VERSION" { default = "" }
variable "COMFYUI_REPOSITORY" { default = "" }
variable "COMFYUI_VERSION" { default = "" }
variable "COMFYUI_COMMIT" { default = "" }
variable "CUDA_VERSION" { default = "" }
variable "PYTORCH" { default = "" }
variable "PYTORCH_INDEX" { default = "" }
variable "HF_ENDPOINT" { default = "" }

# Refuses a value at once: a registry would do so only at the end of a long build. parseint() never succeeds here;
# its error is the one way to say a sentence that buildx has had from the beginning.
function "checked" {
  params = [name, pattern, value]
  result = can(regex(pattern, value)) ? value : parseint("${name} is '${value}', but must match ${pattern}", 10)
}

function "optional" {
  params = [name, pattern, value]
  result = value == "" ? null : checked(name, pattern, value)
}

function "tag" {
  params = [suffix]
  result = [join("", [
    checked("DOCKERHUB_REPO", "^[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*$", DOCKERHUB_REPO), "/",
    checked("DOCKERHUB_IMG", "^[a-z0-9]+(?:[._-]+[a-z0-9]+)*$", DOCKERHUB_IMG), ":",
    checked("RELEASE_VERSION", "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,90}$", RELEASE_VERSION), "-", suffix
  ])]
}

group "default" {
  targets = ["base"]
}

# What fits on a runner of GitHub Actions, and needs no token.
group "open" {
  targets = ["base", "sdxl", "flux1-dev-fp8", "z-image-turbo", "flux2-klein", "wan2-2"]
}

# Open as well, but larger.
group "large" {
  targets = ["qwen-image", "ltx-2"]
}

group "gated" {
  targets = ["sd3", "flux1-schnell", "flux1-dev"]
}

group "hunyuan" {
  targets = ["hunyuan-instruct-nf4", "hunyuan-instruct-int8"]
}

group "cuda" {
  targets = ["base-cuda"]
}

group "everything" {
  targets = ["open", "large", "gated", "hunyuan", "cuda", "stand-in"]
}

target "_common" {
  platforms = ["linux/amd64"]
  args = {
    SOURCE_DATE_EPOCH = checked("SOURCE_DATE_EPOCH", "^[0-9]+$", SOURCE_DATE_EPOCH)
    BASE_IMAGE        = optional("BASE_IMAGE", "^[^ ]+$", BASE_IMAGE)
    PYTHON_VERSION    = optional("PYTHON_VERSION", "^3[.][0-9]+$", PYTHON_VERSION)
  }
  labels = {
    "org.opencontainers.image.title"    = "worker-comfyui"
    "org.opencontainers.image.version"  = RELEASE_VERSION
    "org.opencontainers.image.revision" = REVISION
    "org.opencontainers.image.source"   = REPOSITORY_URL
    "org.opencontainers.image.licenses" = "MIT"
  }
}

target "_comfyui" {
  inherits = ["_common"]
  args = {
    COMFYUI_REPOSITORY = optional("COMFYUI_REPOSITORY", "^[^ ]+$", COMFYUI_REPOSITORY)
    COMFYUI_VERSION    = optional("COMFYUI_VERSION", "^v?[0-9]+([.][0-9]+)*$", COMFYUI_VERSION)
    COMFYUI_COMMIT     = optional("COMFYUI_COMMIT", "^[0-9a-f]{40}$", COMFYUI_COMMIT)
    CUDA_VERSION       = optional("CUDA_VERSION", "^[0-9]+[.][0-9]+$", CUDA_VERSION)
    PYTORCH            = optional("PYTORCH", "^[^ ]+==[^ ]+( [^ ]+)*$", PYTORCH)
    PYTORCH_INDEX      = optional("PYTORCH_INDEX", "^https?://[^ ]+$", PYTORCH_INDEX)
  }
  # THIRD-PARTY.md has the whole list; the models of a variant have licences of their own.
  labels = {
    "org.opencontainers.image.licenses" = "MIT AND GPL-3.0-only"
  }
}

target "base" {
  inherits = ["_comfyui"]
  target   = "base"
  tags     = tag("base")
}

# The CUDA lines: 12.8 needs a driver of the 570 series, 13.0 one of the 580 series.
target "base-cuda" {
  name     = "base-cuda${replace(cuda, ".", "-")}"
  matrix   = { cuda = ["12.8", "13.0"] }
  inherits = ["_comfyui"]
  target   = "base"
  args     = { CUDA_VERSION = cuda }
  tags     = tag("base-cuda${cuda}")
}

target "variant" {
  name = variant
  matrix = {
    variant = [
      "sdxl",
      "sd3",
      "flux1-schnell",
      "flux1-dev",
      "flux1-dev-fp8",
      "z-image-turbo",
      "flux2-klein",
      "qwen-image",
      "wan2-2",
      "ltx-2",
      "hunyuan-instruct-nf4",
      "hunyuan-instruct-int8",
    ]
  }
  inherits = ["_comfyui"]
  target   = "final"
  args = {
    MODEL_TYPE  = variant
    HF_ENDPOINT = optional("HF_ENDPOINT", "^https?://[^ ]+$", HF_ENDPOINT)
  }
  secret = ["id=HF_TOKEN,env=HUGGINGFACE_ACCESS_TOKEN"]
  tags   = tag(variant)
}

# No ComfyUI, no CUDA: the API with local_comfyui behind it (docker compose --profile cpu).
target "stand-in" {
  inherits = ["_common"]
  target   = "stand-in"
  tags     = tag("stand-in")
}
