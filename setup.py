"""The compiled kernels. All else about the package is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import Extension, setup

# Buffers are part of the stable ABI since Python 3.11, so that one file works with all later versions.
STABLE = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"

# A product and a sum that are fused round once, and numpy rounds twice. Nobody reads the flags of exceptions.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math"]

# Headers of several modules.
SHARED = {"_exact_floats.h": {"_factors", "_merges", "_residuals"}, "_joins.h": {"_kernels", "_literals"}}


def headers(name: str) -> list[str]:
    """Return the headers of a module: those that it shares, and those that begin with its name."""
    own = sorted(path.as_posix() for path in Path("git_theta_ext/coding").glob(f"{name}_*.h"))
    shared = [header for header, names in SHARED.items() if name in names]
    return [*(f"git_theta_ext/coding/{header}" for header in ("_extension.h", *shared)), *own]


setup(
    ext_modules=[
        Extension(
            f"git_theta_ext.coding.{name}",
            [f"git_theta_ext/coding/{name}.c"],
            depends=headers(name),  # a change of them builds the module again
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE else [],
            py_limited_api=STABLE,
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            optional=True,  # without a compiler, numpy does the same
        )
        for name in ("_blake3", "_factors", "_huffman", "_kernels", "_literals", "_merges", "_residuals", "_sha256")
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
