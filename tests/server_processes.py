"""Inference servers among the children of this process."""

import psutil


def server_pids() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}
