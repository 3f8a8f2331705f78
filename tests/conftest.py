from __future__ import annotations

from hypothesis import HealthCheck, settings

# Health checks judge how fast a busy machine generates inputs, not this project's code.
settings.register_profile("project", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("project")
