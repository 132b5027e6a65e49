"""mlx_lm.server, hardened from inside: three lines in anybody's own start script.

    import mlx_lm.server, harden.mlx
    harden.mlx.install(mlx_lm.server)
    mlx_lm.server.main()

This is the only room that imports mlx_lm.
"""

from __future__ import annotations

from harden.mlx.install import install

__all__ = ["install"]
