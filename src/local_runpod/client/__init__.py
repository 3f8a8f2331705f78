"""The client side: sends requests, shows what happens, saves results. Knows nothing of the rest."""
