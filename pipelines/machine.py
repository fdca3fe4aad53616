"""What this machine has: cores and GPUs that this process may use."""

import os


def n_cpus() -> int:
    """Return how many cores this process may use: what a job scheduler gave it, not what there is."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def gpu_names(device: str) -> list[str]:
    """Return GPUs as ``CUDA_VISIBLE_DEVICES`` names them, to deal out to workers.

    None where `device` leaves no choice (``cpu``, ``cuda:1``).
    """
    if device not in ("auto", "cuda"):
        return []
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return visible[:number] or [str(index) for index in range(number)]
