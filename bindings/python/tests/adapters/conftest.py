"""The frameworks' telemetry, which would want a network, is told not to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for name, value in (
    ("OPENAI_AGENTS_DISABLE_TRACING_EXPORT", "true"),
    ("CREWAI_DISABLE_TELEMETRY", "true"),
    ("OTEL_SDK_DISABLED", "true"),
    ("ANONYMIZED_TELEMETRY", "false"),
    ("LANGSMITH_TRACING", "false"),
):
    os.environ.setdefault(name, value)
