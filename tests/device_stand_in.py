"""A stand-in for CuPy: host memory, and the CUDA source compiled by the host's C compiler."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import types

import numpy as np

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class DeviceArray(np.ndarray):
    """A NumPy array with a device pointer, that mixes with host arrays no better than CuPy's do."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def __dlpack_device__(self):
        return (2, 0)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        for a in (*inputs, *(out or ())):
            if isinstance(a, np.ndarray) and not isinstance(a, DeviceArray) and a.ndim:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        plain = [a.view(np.ndarray) if isinstance(a, DeviceArray) else a for a in inputs]
        if out is not None:
            keywords["out"] = tuple(a.view(np.ndarray) if isinstance(a, DeviceArray) else a for a in out)
        result = getattr(ufunc, method)(*plain, **keywords)
        if out is not None:
            return out[0]
        return np.asarray(result).view(DeviceArray)

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        super().__setitem__(key, value)


class OutOfMemoryError(Exception):
    pass


class HostModule:
    """Stands for cupy.RawModule."""

    folder = None

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        assert "fast" not in "".join(options)
        text, library = self.folder / "kernels.c", self.folder / "kernels.so"
        if not library.exists():
            text.write_text(code, encoding="utf-8")
            flags = ["-O2", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC"]
            subprocess.run([CC, *flags, "-o", str(library), str(text)], check=True)
        self.library = ctypes.CDLL(str(library))

    def get_function(self, name):
        kinds = {"float32": ctypes.c_float, "float64": ctypes.c_double, "uint64": ctypes.c_uint64}
        function = getattr(self.library, name)

        def launch(grid, block, args):
            assert 1 <= grid[0] < 2**31
            assert block == (256,)
            converted = [
                ctypes.c_void_p(a.ctypes.data)
                if isinstance(a, DeviceArray)
                else kinds.get(str(a.dtype), ctypes.c_int64)(a.item())
                for a in args
            ]
            function(*converted)

        return launch


def stand_in(folder):
    HostModule.folder = folder

    def device(a, dtype=None):
        return np.array(a, dtype=dtype).view(DeviceArray)

    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    return types.SimpleNamespace(
        ndarray=DeviceArray,
        asarray=lambda a, dtype=None: (
            a if isinstance(a, DeviceArray) and dtype in (None, a.dtype) else device(a, dtype)
        ),
        asnumpy=lambda a: np.array(a),
        empty=lambda shape, dtype=np.float64: device(np.full(shape, np.nan, dtype)),
        zeros=lambda *args, **keywords: device(np.zeros(*args, **keywords)),
        from_dlpack=device,
        array=lambda a, dtype=None: np.array(a, dtype=dtype).view(DeviceArray),
        atleast_1d=lambda a: np.atleast_1d(a).view(DeviceArray),
        stack=lambda arrays: np.stack([np.asarray(a) for a in arrays]).view(DeviceArray),
        **{name: getattr(np, name) for name in ("isfinite", "isnan", "maximum", "sign", "sqrt", "square")},
        RawModule=HostModule,
        cuda=types.SimpleNamespace(memory=memory),
    )
