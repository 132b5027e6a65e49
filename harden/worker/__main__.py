"""Start a worker: harden.mlx.install, a private unix socket, and an end when its gateway ends."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import warnings
from pathlib import Path

from harden.worker.lifeline import end_with_gateway

HOPELESS_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: generation failed for good; the supervisor starts another worker."""


def main() -> None:
    """Read our own flags, leave the others to mlx_lm.server, and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m harden.worker", allow_abbrev=False)
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument("--served-model-name", help="the model's name for clients")
    own, upstream_arguments = parser.parse_known_args()
    threading.Thread(target=end_with_gateway, args=[own.socket], daemon=True).start()

    import mlx_lm.server  # noqa: PLC0415 - the lifeline must watch while this loads

    import harden.mlx  # noqa: PLC0415 - as above
    from harden.worker.unix_server import unix_server_class  # noqa: PLC0415 - as above

    harden.mlx.install(
        mlx_lm.server,
        served_model_name=own.served_model_name,
        server_class=unix_server_class(own.socket),
        behind_gateway=True,
        on_hopeless=lambda: os._exit(HOPELESS_EXIT_CODE),
    )
    warnings.filterwarnings("ignore", message="mlx_lm.server is not recommended for production")
    sys.argv = ["mlx_lm.server", *upstream_arguments]
    mlx_lm.server.main()


if __name__ == "__main__":
    main()
