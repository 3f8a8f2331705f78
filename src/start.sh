#!/usr/bin/env bash
# What the image runs: the worker; or, with SERVE_API_LOCALLY=true, the platform's API with the worker behind it.
set -euo pipefail
local_api=${SERVE_API_LOCALLY:-}
if [[ ${local_api,,} =~ ^(true|1|yes|on)$ ]]; then
  unset SERVE_API_LOCALLY
  export PYTHONPATH=/worker/src
  exec /opt/worker/bin/python -m local_runpod serve --host 0.0.0.0
fi
exec /opt/worker/bin/python /worker/handler.py
