"""A RunPod on one machine: the hosted endpoint API, over real workers in production mode.

```
client ──▶ gateway ──▶ job_queue ◀── control_plane ◀── RunPod SDK ◀── handler.py
                           │
                           └──▶ webhooks
```
`gateway` speaks to clients, `control_plane` to workers; both work on one `job_queue` of `jobs`.
`workers` starts and replaces the worker processes, `server` puts everything together, and
`cli` with `client` and `outputs` is what people use.

It knows nothing about ComfyUI's protocol and imports nothing of the worker.
"""
