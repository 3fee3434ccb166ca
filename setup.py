"""The compiled kernels. All else about the package is in setup.cfg."""

import sys

from setuptools import Extension, setup

# Buffers are part of the stable ABI since Python 3.11, so that one file works with all later versions.
STABLE = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"

setup(
    ext_modules=[
        Extension(
            "git_theta_ext.coding._kernels",
            ["git_theta_ext/coding/_kernels.c"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE else [],
            py_limited_api=STABLE,
            extra_compile_args=[] if sys.platform == "win32" else ["-O3"],
            optional=True,  # without a compiler, numpy does the same
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
