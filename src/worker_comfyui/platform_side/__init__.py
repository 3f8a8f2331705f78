"""RunPod's side: taking jobs, sending progress and results. Only here is the SDK imported."""
