"""`python -m homeport`."""

from __future__ import annotations

from homeport.cli import main

if __name__ == "__main__":
    main()
