"""An ordinary mlx_lm.server, hardened from inside; its flags are upstream's."""

import mlx_lm.server

import harden.mlx

harden.mlx.install(mlx_lm.server)
mlx_lm.server.main()
