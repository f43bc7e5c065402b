"""Writes the safetensors format with nothing but torch (specification: the safetensors README, "Format").

A file is the length of the header (8 bytes, little-endian), a JSON header with dtype, shape and offsets by name, then
the tensors' bytes. The images that ranks run in have torch, but need not have the safetensors package.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch

from mlnb.node.data.storages import view_of

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, int]:
    """Write ``tensors`` (dense, any device) to ``path``.

    Returns
    -------
    dict
        name → offset of the tensor's first byte in the file.

    Raises
    ------
    OSError
        if the file can't be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    spans: dict[str, int] = {}
    end = 0
    for name, tensor in tensors.items():
        spans[name] = end
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for tensor in tensors.values():
            if tensor.nbytes:
                file.write(view_of(tensor))
    return {name: 8 + len(encoded) + start for name, start in spans.items()}
