"""The time of a release, so that the same source makes the same files: that of SOURCE_DATE_EPOCH
where a package build sets it, else that of the last commit."""

import datetime
import os
import subprocess


def release_time(root):
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        result = subprocess.run(
            ["git", "-C", root, "log", "-1", "--format=%ct"],
            capture_output=True, text=True, timeout=20, check=False,
        )
        epoch = result.stdout.strip() or "0"
    return datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
