#!/usr/bin/env bash
# What the image runs: the worker; or, with SERVE_API_LOCALLY=true, the platform's API with the worker behind it.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

# SSH, for those who have set their key. Host keys are made here: the image has none.
if [[ -n ${PUBLIC_KEY:-} ]]; then
  if ((EUID == 0)) && command -v sshd >/dev/null; then
    install -d -m 700 ~/.ssh
    printf '%s\n' "$PUBLIC_KEY" >>~/.ssh/authorized_keys
    chmod 600 ~/.ssh/authorized_keys
    ssh-keygen -A >/dev/null
    install -d -m 755 /run/sshd
    /usr/sbin/sshd -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no
  else
    say "PUBLIC_KEY is set, but this container cannot run SSH: it is not root, or the image has no sshd."
  fi
fi

scratch=${TMPDIR:-/tmp}
# Another user than root has no home in the image, and caches go there.
[[ -w ${HOME:-/} ]] || export HOME=$scratch
if [[ -d ${COMFYUI_PATH:-} ]]; then
  # Without the right to write beside ComfyUI's code (docker run --user, --read-only), its folders are elsewhere.
  own=$scratch/comfyui
  folders=
  if [[ ! -w $COMFYUI_PATH ]]; then
    mkdir -p "$own"/{input,output,user}
    cp -r "$COMFYUI_PATH/input/." "$own/input"
    folders="--input-directory $own/input --temp-directory $own --user-directory $own/user \
--database-url sqlite:///$own/user/comfyui.db"
  fi
  # Some nodes write to `output` in the current folder, which is ComfyUI's, without asking it where to: that is its
  # output folder, but where nobody can write there.
  output=$COMFYUI_PATH/output
  [[ -w $COMFYUI_PATH || -w $output ]] || output=$own/output
  export COMFYUI_ARGS="--output-directory $output $folders ${COMFYUI_ARGS:-}"
fi

# The request that a worker outside of RunPod runs: that of the current folder, or the image's own.
[[ -f test_input.json ]] || cd /worker
local_api=${SERVE_API_LOCALLY:-}
if [[ ${local_api,,} =~ ^(true|1|yes|on)$ ]]; then
  unset SERVE_API_LOCALLY
  export PYTHONPATH=/worker/src
  exec /opt/worker/bin/python -m local_runpod serve --host 0.0.0.0
fi
exec /opt/worker/bin/python /worker/handler.py
