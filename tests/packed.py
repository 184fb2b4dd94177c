"""What the registry's archive of the pack holds: the files that git tracks, less those that .comfyignore names."""

import shutil
import subprocess

import pytest


def git(root, *arguments):
    """The lines that `git arguments` prints; the test is skipped where `root` is no repository or git is missing."""
    if not (root / ".git").exists() or not shutil.which("git"):
        pytest.skip(
            "this reads the repository with git, and there is no git or this copy of the pack has no repository"
        )
    command = ["git", "-C", str(root), "-c", "core.quotePath=off", *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=300).stdout.splitlines()


def left_out(root, ignore=".comfyignore"):
    """The tracked files that stay out of the archive."""
    return set(git(root, "ls-files", "--cached", "--ignored", f"--exclude-from={root / ignore}"))


def packed(root):
    """The tracked files that the archive holds."""
    return set(git(root, "ls-files")) - left_out(root)
