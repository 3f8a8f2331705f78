"""The workers' side: their processes, and the protocol of RunPod's SDK."""
