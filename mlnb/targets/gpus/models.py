"""GPU models by the names that sites give them: memory and compute capability of each.

Compute capability: https://developer.nvidia.com/cuda-gpus and https://developer.nvidia.com/cuda-legacy-gpus. Memory:
the makers' data sheets; for what MIG divides (and the names of the slices, which hold their memory)
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GB = 10**9
"""Bytes of the gigabyte of data sheets; a GPU "with 24GB" may have a little more, never less."""

Capability = tuple[int, int]

# name → sizes of memory that it is sold with, in GB for each GPU that CUDA or ROCm counts, smallest first
_BY_CAPABILITY: dict[Capability | None, dict[str, tuple[int, ...]]] = {
    (3, 7): {"k80": (12,)},
    (5, 2): {"m40": (12, 24), "m60": (8,)},
    (6, 0): {"p100": (12, 16), "gp100": (16,)},
    (6, 1): {"p4": (8,), "p40": (24,), "gtx1080": (8,), "gtx1080ti": (11,), "titanxp": (12,)},
    (7, 0): {"v100": (16, 32), "v100s": (32,), "gv100": (32,), "titanv": (12,)},
    (7, 5): {
        "t4": (16,),
        "rtx2080": (8,),
        "rtx2080ti": (11,),
        "titanrtx": (24,),
        "rtx5000": (16,),
        "rtx6000": (24,),
        "rtx8000": (48,),
    },
    (8, 0): {"a100": (40, 80), "a800": (40, 80), "a30": (24,)},
    (8, 6): {
        "a2": (16,),
        "a10": (24,),
        "a10g": (24,),
        "a16": (16,),
        "a40": (48,),
        "a4000": (16,),
        "a4500": (20,),
        "a5000": (24,),
        "a6000": (48,),
        "rtx3070": (8,),
        "rtx3080": (10, 12),
        "rtx3090": (24,),
        "rtx3090ti": (24,),
    },
    (8, 9): {
        "l4": (24,),
        "l40": (48,),
        "l40s": (48,),
        "rtx4080": (16,),
        "rtx4090": (24,),
        "rtx4000ada": (20,),
        "rtx5000ada": (32,),
        "rtx6000ada": (48,),
    },
    (9, 0): {"h100": (80, 94, 96), "h800": (80,), "h20": (96,), "h200": (141,), "gh200": (96, 144)},
    (10, 0): {"b200": (180,), "gb200": (186,)},
    (12, 0): {"rtx5080": (16,), "rtx5090": (32,), "rtxpro6000": (96,)},
    # AMD's have no compute capability; ROCm counts the two dies of an MI250 as two GPUs
    None: {
        "mi50": (16, 32),
        "mi100": (32,),
        "mi210": (64,),
        "mi250": (64,),
        "mi250x": (64,),
        "mi300a": (128,),
        "mi300x": (192,),
        "mi325x": (256,),
    },
}

# parts of names that do not distinguish models
_NOISE = re.compile(r"nvidia|tesla|geforce|quadro|amd|instinct|radeon|gpus?|sxm[0-9]?|pcie|nvl|nvlink|hbm[0-9]e?")
_SLICE = re.compile(r"(?<![0-9a-z])([1-7]g\.([0-9]{1,3})gb)(?![0-9a-z])")


@dataclass(frozen=True)
class GpuModel:
    """What the name of a GPU says about it.

    Attributes
    ----------
    name
        of the model, as in the table of this module; empty if the name gives only memory or a slice.
    memory
        bytes that it has at least; ``None`` if unknown.
    memory_is_exact
        whether all GPUs of that name have that memory: not so of an ``a100``, which has 40 or 80 GB.
    capability
        compute capability, as in ``(8, 0)``; ``None`` if unknown, or if it has none.
    mig_slice
        the MIG slice that it is, like ``1g.10gb``; empty for a whole GPU.
    """

    name: str = ""
    memory: int | None = None
    memory_is_exact: bool = False
    capability: Capability | None = None
    mig_slice: str = ""


def parse_gpu_name(text: str) -> GpuModel | None:
    """Read a GPU type or a feature of a node, like ``NVIDIA-A100-SXM4-80GB``, ``v100_32`` or ``gpu80g``.

    Returns
    -------
    GpuModel or None
        ``None`` if the text says nothing about a GPU.
    """
    lower = text.lower()
    mig_slice = _SLICE.search(lower)
    if mig_slice:
        rest = lower[: mig_slice.start()] + " " + lower[mig_slice.end() :]
        of_name = _parse_whole_gpu(re.sub(r"(?<![a-z0-9])mig(?![a-z0-9])", "", rest))
        model = of_name if of_name is not None and of_name.name else GpuModel()
        return GpuModel(model.name, int(mig_slice[2]) * GB, True, model.capability, mig_slice[1])
    return _parse_whole_gpu(lower)


def _parse_whole_gpu(lower: str) -> GpuModel | None:
    """The model of a lower-case name without a MIG slice."""
    tokens, memory = [], None
    for token in re.findall(r"[a-z0-9]+", lower):
        size = re.fullmatch(r"(gpu|vram|gpumem|)([0-9]{1,3})(?:g|gb|gib)", token)
        if size:
            memory = int(size[2])
            tokens += [size[1]] if size[1] else []
        else:
            tokens.append(token)
    significant = [token for token in tokens if not _NOISE.fullmatch(token)]
    name, sizes, capability = _look_up("".join(significant))
    if not name and len(significant) > 1 and significant[-1].isdigit():  # v100_32
        name, sizes, capability = _look_up("".join(significant[:-1]))
        if int(significant[-1]) not in sizes:
            return None
        memory = int(significant[-1])
    if name:
        is_exact = memory is not None or len(sizes) == 1
        return GpuModel(name, (memory or sizes[0]) * GB, is_exact, capability)
    # a number of gigabytes alone may be the machine's memory
    if (
        memory is not None
        and set(tokens) <= {"gpu", "gpumem", "vram", "mem", "memory"}
        and set(tokens) - {"mem", "memory"}
    ):
        return GpuModel("", memory * GB, True)
    return None


def _look_up(name: str) -> tuple[str, tuple[int, ...], Capability | None]:
    """The table's spelling of a name, its sizes of memory and its capability; empty if it is not there."""
    for spelled in (name, f"rtx{name}", f"gtx{name}", name.removeprefix("rtx")):
        for capability, models in _BY_CAPABILITY.items():
            if spelled in models:
                return spelled, models[spelled], capability
    return "", (), None


def parse_capability(text: str) -> Capability:
    """``8.0`` as ``(8, 0)``, so that 8.10 is more than 8.6.

    Raises
    ------
    ValueError
        with what is allowed as its message.
    """
    match = re.fullmatch(r"\s*([0-9]{1,3})(?:\.([0-9]{1,3}))?\s*", text)
    if match is None:
        raise ValueError("a compute capability like 8.0")
    return int(match[1]), int(match[2] or 0)


def format_gpu_memory(count: int) -> str:
    """Bytes as ``--gpu-memory`` reads them: ``80GB``, ``24GiB``, ``10.5GB``."""
    if count % GB and count % 2**30 == 0:
        return f"{count // 2**30}GiB"
    return f"{count / GB:.6g}GB"


def format_capability(capability: Capability) -> str:
    """``(8, 0)`` as ``8.0``."""
    return f"{capability[0]}.{capability[1]}"
