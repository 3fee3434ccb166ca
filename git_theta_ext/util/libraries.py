"""Libraries that only some work needs: whether they are installed, and one error if they are not."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from git_theta_ext.errors import LibraryError

_EXTRAS = {
    "torch": "merge",
    "safetensors": "merge",
    "obstore": "cloud",
    "tensorstore": "arrays",
    "ray": "cluster",
    "cma": "search",
    "tokenizers": "moe",
    "git": "notebook",
}
"""Library to the extra of setup.cfg that installs it."""

_HINTS = {"merge": " (on a machine without a GPU, point pip at PyTorch's CPU index first)"}


def is_installed(library: str) -> bool:
    """Return whether a library can be found, without importing it."""
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):  # a parent package is absent, or a module has no spec
        return False


def absent(library: str, work: str) -> LibraryError:
    """Return the error that a library is not installed.

    Args:
        library: The name under which it is imported.
        work: What needs it, as the subject of a sentence.
    """
    from git_theta_ext.util.installer import install_command, library_command  # imports shutil, for errors only

    extra = _EXTRAS.get(library)
    command = f"{install_command(extra)}{_HINTS.get(extra, '')}" if extra else library_command(library)
    return LibraryError(f"{work} needs {library}, which is not installed", hint=command)


def require(library: str, work: str) -> None:
    """Import a library that an extra installs, or raise one clear error.

    Args:
        library: The name under which it is imported.
        work: What needs it, as the subject of a sentence.

    Raises:
        LibraryError: It is not installed, or cannot be imported.
    """
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != library:
            raise _broken(library, work, error) from error
        raise absent(library, work) from error
    except (ImportError, OSError) as error:  # a shared object that it is built on is missing
        raise _broken(library, work, error) from error


def _broken(library: str, work: str, error: Exception) -> LibraryError:
    from git_theta_ext.util.installer import library_command

    return LibraryError(
        f"{work} needs {library}, which cannot be imported: {error}", hint=library_command(library, again=True)
    )
