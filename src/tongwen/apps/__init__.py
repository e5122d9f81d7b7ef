"""What people do with a model; applications see it only through the engine's protocol."""

from __future__ import annotations
