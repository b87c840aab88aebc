"""Models by name: which run's checkpoint is in use, its history, and the model itself, ready to sample.

    from orchestrator import registry

    faces = registry.load("faces")
    pictures = faces.to_uint8(faces.sample(16, seed=1))

Nothing here imports torch before a model is loaded.
"""

from orchestrator.errors import Outrun
from orchestrator.registry.candidates import Candidate
from orchestrator.registry.records import Promotion
from orchestrator.registry.registry import Registry
from orchestrator.registry.serving import Generator, load, watch

__all__ = ["Candidate", "Generator", "Outrun", "Promotion", "Registry", "load", "watch"]
