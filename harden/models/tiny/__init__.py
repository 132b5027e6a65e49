"""A small Llama with random weights, built on the spot: no download, the same bytes every time."""

from __future__ import annotations

from harden.models.tiny.build import tiny_model_folder, tiny_model_path

__all__ = ["tiny_model_folder", "tiny_model_path"]
