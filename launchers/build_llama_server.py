"""Build the real `llama-server` into the environment of the interpreter that runs this file.

The sources come from PyPI, inside the sdist of llama-cpp-python (`vendor/llama.cpp`), so that the machines that can
install the other engines can install this one too. cmake and ninja come from the environment's lock, the compiler from
the system. `CMAKE_ARGS` adds to the configuration, as it does for llama-cpp-python: `-DGGML_CUDA=ON` for NVIDIA's GPUs.
Not by itself where `nvcc` is: a toolkit without a driver fails to link.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SOURCE = "llama-cpp-python==0.3.36"
CONFIGURATION = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


def main() -> int:
    if shutil.which("c++") is None:
        sys.stderr.write("no C++ compiler on PATH: install one (Debian and Ubuntu: apt install g++)\n")
        return 1
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="llama-server-") as folder:
        try:
            built = build(download(Path(folder)), Path(folder) / "build", programs)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"building llama-server failed: {shlex.join(error.cmd)} ended with {error.returncode}\n")
            return 1
        shutil.copy2(built, programs / "llama-server")
    return 0


def download(folder: Path) -> Path:
    """Fetch the sdist; return llama.cpp's source folder."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), SOURCE], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    (source,) = folder.glob("*/vendor/llama.cpp")
    return source


def build(source: Path, target: Path, programs: Path) -> Path:
    """Configure and compile; return the program."""
    asked = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    # By path: the environment is not activated.
    tools = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={programs / 'ninja'}"]
    cmake = str(programs / "cmake")
    subprocess.run([cmake, "-S", str(source), "-B", str(target), *tools, *CONFIGURATION, *asked], check=True)
    subprocess.run([cmake, "--build", str(target), "--target", "llama-server"], check=True)
    return target / "bin" / "llama-server"


if __name__ == "__main__":
    sys.exit(main())
