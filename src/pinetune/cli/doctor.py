"""`pinetune doctor`: what this host can and cannot confine, each promise tried on the spot, and what it has to work with."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from pinetune import __version__
from pinetune.sandbox import packages, selfcheck
from pinetune.sandbox.levels import confined_level, why_not_confined

INSTALL = {
    "Debian, Ubuntu": "apt-get install bubblewrap",
    "Fedora, RHEL": "dnf install bubblewrap",
    "Arch": "pacman -S bubblewrap",
    "Alpine": "apk add bubblewrap",
    "openSUSE": "zypper install bubblewrap",
}


def examine() -> dict[str, Any]:
    """All findings as plain JSON values; `ok` is False where python graders cannot be confined."""
    level = confined_level()
    promises = selfcheck.check(level) if level else []
    return {
        "ok": bool(promises) and all(finding.held for finding in promises),
        "level": level.name if level else None,
        "why_not": None if level else why_not_confined(),
        "promises": [{"promise": one.promise, "held": one.held, "detail": one.detail} for one in promises],
        "host": host(),
        "packages": {package.name: _version(package.name) if package.installed() else None for package in packages.PACKAGES.values()},
        "nltk_corpora_missing": packages.missing_corpora(),
    }


def host() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "pinetune": __version__,
        "python": platform.python_version(),
        "torch": _version("torch"),
        "system": platform.platform(),
        "cores": cores,
        "memory_gib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 1) if pages else None,
        "gpus": _said("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines(),
        "bubblewrap": _said("bwrap", "--version").removeprefix("bubblewrap ") or None,
    }


def report(found: Mapping[str, Any]) -> str:
    """The findings for a person."""
    lines = [*_confinement(found), "", *_host(found["host"]), "", *_packages(found)]
    return "\n".join(lines)


def _confinement(found: Mapping[str, Any]) -> list[str]:
    if found["level"] is None:
        install = [f"  {system}: {command}" for system, command in INSTALL.items()]
        return ["python graders: REFUSED, this host cannot confine them", f"  {found['why_not']}", "Install bubblewrap:", *install]
    lines = [
        f"python graders: confined by {found['level']}"
        if found["ok"]
        else f"python graders: {found['level']} does NOT hold what it promises"
    ]
    for one in found["promises"]:
        lines.append(f"  {'ok ' if one['held'] else 'NO '} {one['promise']}{': ' + one['detail'] if one['detail'] else ''}")
    return lines


def _host(facts: Mapping[str, Any]) -> list[str]:
    gpus = "; ".join(facts["gpus"]) or "none"
    return [
        f"host: {facts['system']}",
        f"  pinetune {facts['pinetune']}, Python {facts['python']}, torch {facts['torch']}",
        f"  bubblewrap {facts['bubblewrap'] or 'not found'}",
        f"  {facts['cores']} cores, {facts['memory_gib']} GiB of memory, GPU: {gpus}",
    ]


def _packages(found: Mapping[str, Any]) -> list[str]:
    present = [f"{name} {version}" for name, version in found["packages"].items() if version]
    lines = [f"packages for graders: {', '.join(present)}"]
    commands: dict[str, list[str]] = {}
    for package in packages.PACKAGES.values():
        if found["packages"][package.name] is None:
            commands.setdefault(package.command, []).append(package.name)
    lines += [f"  absent: {', '.join(names)} ({command})" for command, names in commands.items()]
    if found["nltk_corpora_missing"] and found["packages"]["nltk"]:
        lines.append(f"  absent: nltk's {', '.join(found['nltk_corpora_missing'])} ({packages.corpora_command()})")
    return lines


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(program: str, *arguments: str) -> str:
    """What a program prints, or "" where it is absent or fails."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def doctor_command(as_json: bool) -> bool:
    """Print the findings; whether python graders can be confined here."""
    found = examine()
    print(json.dumps(found, indent=2) if as_json else report(found))
    return bool(found["ok"])
