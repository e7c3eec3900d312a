"""`python -m driver` and the command `accel-dra`."""

from __future__ import annotations

from driver.cli.commands import main

if __name__ == "__main__":
    main()
