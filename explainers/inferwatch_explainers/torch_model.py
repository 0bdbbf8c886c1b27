"""PyTorch models from files: TorchScript and exported programs as they are, pickled modules where they are trusted."""

from __future__ import annotations

import math
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.rows import Matrix

SUFFIXES = (".pt", ".pth", ".pt2")


def is_pickle(path: Path) -> bool:
    """Return whether a file that PyTorch wrote is a pickle, which can run any code as it is read.

    TorchScript brings its code along in a language of its own, an exported program (`.pt2`) a graph.
    """
    if path.suffix == ".pt2":
        return False
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return not any("/code/" in name for name in archive.namelist())


class TorchModel:
    """A PyTorch module, asked about flattened inputs.

    `module` takes a tensor (r, *input_shape) of float32 and returns (r,) or (r, k). Only one caller at a time may
    explain it, and holds `lock`: some methods hang hooks into it. Raises `InvalidOption` where the file cannot be read,
    `MissingExtra` without PyTorch.
    """

    def __init__(self, path: Path, input_shape: tuple[int, ...], width: int) -> None:
        self.input_shape = input_shape or (width,)
        if math.prod(self.input_shape) != width:
            raise InvalidOption(f"input_shape {list(input_shape)} does not hold the {width} features of the reference")
        self.module = _read(path)
        self.n_features_in_ = width
        self.lock = threading.Lock()

    def predict(self, rows: Matrix) -> NDArray[np.float64]:
        """Return the module's outputs for rows (r, d): (r,) or (r, k)."""
        import torch

        with torch.no_grad():
            outputs = self.module(self.tensor(rows)).double().numpy()
        return np.asarray(outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs)

    def tensor(self, rows: Matrix) -> Any:  # noqa: ANN401 - torch may be absent
        """Return rows (r, d) as the tensor that the module takes."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).reshape(-1, *self.input_shape)


def _read(path: Path) -> Any:  # noqa: ANN401 - a module
    try:
        import torch
    except ImportError as fault:
        raise MissingExtra(f"the artefact {path}", "captum") from fault
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what many have
            if path.suffix == ".pt2":
                return torch.export.load(path).module()
            if not is_pickle(path):
                return torch.jit.load(str(path), map_location="cpu").eval()
            module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as fault:
        raise InvalidOption(f"{path} cannot be read: {type(fault).__name__}: {fault}") from fault
    if not isinstance(module, torch.nn.Module):
        raise InvalidOption(f"{path} holds a {type(module).__name__}, which is no module; save the module itself")
    return module.eval()
