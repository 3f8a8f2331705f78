"""A RunPod on one machine: the hosted endpoint API, over real workers in production mode.

```
client ──▶ gateway ──▶ job_queue ◀── control_plane ◀── RunPod SDK ◀── handler.py
                           │
                           └──▶ webhooks
```
`gateway` speaks to clients, and gives a browser the `page`; `workers` starts and replaces the
worker processes, and has the control plane that they speak to; both work on one queue of `jobs`.
`web` is what the two servers share, and `server` puts everything together. `commands` is what
people start, `client` the other side of the API, which `submit` and `run` use.

It knows nothing about ComfyUI's protocol and imports nothing of the worker.
"""
