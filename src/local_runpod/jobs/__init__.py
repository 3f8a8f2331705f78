"""The jobs, their queue, and what is told when they end. No HTTP server, no processes."""
