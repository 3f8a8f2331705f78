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

# null: as in the Dockerfile.
variable "BASE_IMAGE" { default = null }
variable "PYTHON_VERSION" { default = null }
variable "COMFYUI_VERSION" { default = null }
variable "COMFYUI_COMMIT" { default = null }
variable "PYTORCH" { default = null }
variable "PYTORCH_INDEX" { default = null }
variable "HF_ENDPOINT" { default = null }

# regex() refuses what does not match: a registry would do so only at the end of a long build.
function "tag" {
  params = [suffix]
  result = [join("", [
    regex("^[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*$", DOCKERHUB_REPO), "/",
    regex("^[a-z0-9]+(?:[._-]+[a-z0-9]+)*$", DOCKERHUB_IMG), ":",
    regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,90}$", RELEASE_VERSION), "-", suffix
  ])]
}

group "default" {
  targets = ["base"]
}

# What fits on a runner of GitHub Actions, and needs no token.
group "open" {
  targets = ["base", "sdxl", "flux1-dev-fp8", "z-image-turbo"]
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
  targets = ["open", "gated", "hunyuan", "cuda"]
}

target "_common" {
  platforms = ["linux/amd64"]
  args = {
    BASE_IMAGE      = BASE_IMAGE
    PYTHON_VERSION  = PYTHON_VERSION
    COMFYUI_VERSION = COMFYUI_VERSION
    COMFYUI_COMMIT  = COMFYUI_COMMIT
    PYTORCH         = PYTORCH
    PYTORCH_INDEX   = PYTORCH_INDEX
  }
  labels = {
    "org.opencontainers.image.version" = RELEASE_VERSION
  }
}

target "base" {
  inherits = ["_common"]
  target   = "base"
  tags     = tag("base")
}

# The CUDA lines: 12.8 needs a driver of the 570 series, 13.0 one of the 580 series.
target "base-cuda" {
  name     = "base-cuda${replace(cuda, ".", "-")}"
  matrix   = { cuda = ["12.8", "13.0"] }
  inherits = ["_common"]
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
      "hunyuan-instruct-nf4",
      "hunyuan-instruct-int8",
    ]
  }
  inherits = ["_common"]
  target   = "final"
  args = {
    MODEL_TYPE  = variant
    HF_ENDPOINT = HF_ENDPOINT
  }
  secret = ["id=HF_TOKEN,env=HUGGINGFACE_ACCESS_TOKEN"]
  tags   = tag(variant)
}
