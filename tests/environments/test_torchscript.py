"""TorchScript archives in Python and in C++."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import ERF_GELU
from models import having, named
from verdicts import Client, judge

PYTHON = Client("torch.jit.load", "torchscript", ("torch",))
CPP = Client("torch::jit::load, C++", "torchscript", ("torch",))

LOADER = """
#include <torch/script.h>
#include <fstream>
int main(int, char** arguments) {
  torch::jit::Module model = torch::jit::load(arguments[1]);
  torch::InferenceMode guard;
  const int64_t side = std::stoll(arguments[2]);
  auto pixels = torch::empty({2, 3, side, side});
  std::ifstream(arguments[3], std::ios::binary).read(static_cast<char*>(pixels.data_ptr()), pixels.nbytes());
  auto outputs = model.forward({pixels}).toTensor().contiguous();
  std::ofstream(arguments[4], std::ios::binary).write(static_cast<char*>(outputs.data_ptr()), outputs.nbytes());
}
"""
"""model.pt, side, file of float32 pixels, file for the float32 outputs."""

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
on_each_model = pytest.mark.parametrize("model", having("torchscript"), ids=str)


def run(path, model):
    with torch.inference_mode():
        return torch.jit.load(str(path))(torch.from_numpy(model.planar())).numpy()


@on_each_model
def test_python(model, variant, book):
    outputs = run(model.path(variant, "torchscript"), model)
    book.enter(judge(PYTHON, model, variant, outputs))


@pytest.fixture(scope="module")
def loader(tmp_path_factory) -> Path:
    """The program above, compiled against the headers and libraries that come with torch."""
    folder = tmp_path_factory.mktemp("loader")
    program, source = folder / "loader", folder / "loader.cpp"
    source.write_text(LOADER)
    root = Path(torch.__file__).parent
    includes = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    libraries = [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = ["g++", "-std=c++20", "-O0", abi, *includes, str(source), "-o", str(program), *libraries]
    subprocess.run(command, check=True, timeout=600)
    return program


def run_loader(loader, path, model, folder):
    model.planar().tofile(folder / "pixels")
    side = str(model.planar().shape[-1])
    command = [str(loader), str(path), side, str(folder / "pixels"), str(folder / "outputs")]
    subprocess.run(command, check=True, timeout=300)
    return np.fromfile(folder / "outputs", np.float32).reshape(2, -1)


@on_each_model
def test_cpp(model, variant, book, loader, tmp_path):
    outputs = run_loader(loader, model.path(variant, "torchscript"), model, tmp_path)
    book.enter(judge(CPP, model, variant, outputs))


def test_the_erf_gelu_is_seen(spoiled, loader, tmp_path):
    model = named("digits")
    path = spoiled(model.path("classifier", "torchscript"), *ERF_GELU)
    assert not judge(PYTHON, model, "classifier", run(path, model)).passed
    assert not judge(CPP, model, "classifier", run_loader(loader, path, model, tmp_path)).passed
