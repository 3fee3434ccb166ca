"""The patterns under which popular libraries save models: this table is the only place that lists them."""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase

from git_theta_ext.records import dataclass


@dataclass(frozen=True)
class Preset:
    """The files of a library.

    Attributes:
        patterns: As in ``.gitattributes``.
        summary: What the files are, in Markdown.
    """

    patterns: tuple[str, ...]
    summary: str


_TENSORS = ("*.safetensors", "*.bin")
_TRAINING = ("*.pt", "*.pth")

PRESETS = {
    "dcp": Preset(("*.distcp",), "Directories of torch.distributed.checkpoint, as FSDP writes them"),
    "deepspeed": Preset((*_TENSORS, *_TRAINING), "Model and optimizer states of DeepSpeed, with all ranks"),
    "diffusers": Preset((*_TENSORS, "*.ckpt", "*.msgpack"), "Pipelines of Diffusers, and single-file checkpoints"),
    "flax": Preset(("*.msgpack",), "Flax's MessagePack"),
    "gguf": Preset(("*.gguf",), "Models of llama.cpp"),
    "keras": Preset(("*.keras", "*.h5", "*.hdf5"), "Models and weights of Keras"),
    "lightning": Preset(("*.ckpt",), "Checkpoints of Lightning"),
    "nemo": Preset(("*.nemo",), "Models of NeMo, a tar of a checkpoint and its configuration"),
    "numpy": Preset(("*.npy", "*.npz"), "Arrays of numpy"),
    "onnx": Preset(("*.onnx", "*.onnx_data", "*.onnx.data"), "ONNX models with their external data"),
    "orbax": Preset(("**/ocdbt.process_*/d/*", "**/d/" + 32 * "?"), "Databases of Orbax as they are, with OCDBT"),
    "peft": Preset(("adapter_model*.safetensors", "adapter_model*.bin"), "Adapters of PEFT"),
    "sklearn": Preset(("*.joblib", "*.pkl", "*.pickle"), "Models of scikit-learn, and other pickles with arrays"),
    "tflite": Preset(("*.tflite",), "Models of TensorFlow Lite"),
    "torch": Preset(
        ("*.pt", "*.pth", "*.pt2", "*.ckpt", "*.bin"), "Files of `torch.save`, `torch.jit` and `torch.export`"
    ),
    "transformers": Preset(
        (*_TENSORS, *_TRAINING, "*.h5", "*.msgpack"), "Models of Transformers, and the folders of its Trainer"
    ),
    "xgboost": Preset(("*.ubj",), "Models of XGBoost"),
    "zarr": Preset(("**/*.zarr/**",), "Directories of zarr as they are"),
}
"""Name to preset."""

_NAMES = sorted({name for preset in PRESETS.values() for name in preset.patterns if name.startswith("*.")})


def pattern_of(path: str) -> str | None:
    """Return a pattern of file names, such as ``*.pt``, that a path matches; None if it is not the name of a model."""
    name = posixpath.basename(path)
    return next((pattern for pattern in _NAMES if fnmatchcase(name, pattern)), None)
