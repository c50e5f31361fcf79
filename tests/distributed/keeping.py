"""The command `sortednet`, whose finished runs keep their last checkpoint for tests to read."""

from __future__ import annotations

from unittest.mock import patch

from sortednet_cli.cli.main import main
from sortednet_cli.storage.run import RunFolder

if __name__ == "__main__":
    with patch.object(RunFolder, "drop_checkpoints"):
        main()
