"""Write the lock files of this folder: every distribution that an installation needs, as `name==version`.

    runtime.lock   what `homeport` needs to run
    dev.lock       what is added by the gates and the tests (the `dev` group of pyproject.toml)
    build.lock     what `make install` itself needs: pip and the build backend

They are used as constraints, so each still installs only what its Python version and platform ask for. Run by
`make lock`, with the pip of the environment it runs in; nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Written by `make lock`; edit pyproject.toml instead.\n"


def resolve(requirements: list[str], constraints: list[Path]) -> dict[str, str]:
    """Versions that pip would install for `requirements`, with all that they need, on an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    for path in constraints:
        command += ["--constraint", str(path)]
    report = json.loads(subprocess.run([*command, *requirements], check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603
    installed = (item["metadata"] for item in report["install"])
    return {metadata["name"].lower().replace("_", "-"): metadata["version"] for metadata in installed}


def write(path: Path, versions: dict[str, str]) -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    sys.stdout.write(f"{path.relative_to(ROOT)}: {len(lines)} distributions\n")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    here = ROOT / "requirements"
    runtime, dev, build = here / "runtime.lock", here / "dev.lock", here / "build.lock"

    runtime_versions = resolve(project["project"]["dependencies"], [])
    write(runtime, runtime_versions)
    dev_versions = resolve(project["dependency-groups"]["dev"], [runtime])
    write(dev, {name: version for name, version in dev_versions.items() if name not in runtime_versions})
    # hatchling asks for `editables` when it builds an editable installation (PEP 660).
    write(build, resolve(["pip", *project["build-system"]["requires"], "editables"], [runtime, dev]))


if __name__ == "__main__":
    main()
